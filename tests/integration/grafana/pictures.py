"""Draws every dashboard as a picture, since no Grafana can be started here: python -m tests.integration.grafana.pictures FOLDER.

With `--prometheus URL` the figures are those of that server, over `--hours` until `--end`; without one, those of the tests' night.
Needs chromium. The grid, the queries, units, colours and columns are the dashboards' own; fonts and axes are not Grafana's.
"""

import argparse
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from tests.integration.grafana import drawing
from tests.integration.grafana.panels import Query, answer, dashboards
from tests.integration.grafana.story import told
from tests.servers.debian import require

WIDTH: Final = 1_680
UNIT: Final = 38
"""Pixels of one step of the grid downwards."""
STYLE: Final = """
body { background: #111217; color: #ccccdc; font: 12px sans-serif; margin: 0 } h1 { font-size: 17px; margin: 10px }
.panel { position: absolute; background: #181b1f; border: 1px solid #2c3235; box-sizing: border-box; overflow: hidden; padding: 4px 8px }
.row { border: 0; background: none; font-weight: bold; font-size: 14px } h2 { font-size: 12px; margin: 0 0 2px }
p { margin: 0; color: #8e8e9e; font-size: 10px } .stat { font-size: 26px; text-align: center; padding-top: 8px }
table { border-spacing: 8px 2px; width: 100% } th { text-align: left; color: #6e9fff } td.bar { width: 55%; background: #22252b }
td.bar i { display: block; height: 12px } text { fill: #8e8e9e; font-size: 10px } .legend { font-size: 11px }
"""
Ask = Callable[[Query, int], drawing.Series]


def page(file: str, dashboard: Mapping[str, Any], ask: Ask, *, start: float, end: float) -> tuple[str, int]:
    """The dashboard as HTML, and its height in pixels."""
    parts = []
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        x, y, w, h = (round(grid[key] * unit) for key, unit in (("x", WIDTH / 24), ("y", UNIT), ("w", WIDTH / 24), ("h", UNIT)))
        place = f"style='left:{x}px;top:{y + 40}px;width:{w - 4}px;height:{h - 4}px'"
        if panel["type"] == "row":
            parts.append(f"<div class='panel row' {place}>{escape(panel['title'])}</div>")
            continue
        body = _body(file, panel, ask, start=start, end=end, width=w - 24, height=h - 72)
        about = "" if panel["type"] == "stat" else f"<p>{escape(panel['description'][: w // 5])}</p>"
        parts.append(f"<div class=panel {place}><h2>{escape(panel['title'])}</h2>{about}{body}</div>")
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * UNIT + 50
    head = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h1>{escape(dashboard['title'])}</h1>"
    return head + "".join(parts), height


def _body(file: str, panel: Mapping[str, Any], ask: Ask, *, start: float, end: float, width: int, height: int) -> str:
    if panel["datasource"]["type"] != "prometheus":
        return f"<div class=stat>asked of {escape(panel['datasource']['uid'])}</div>"
    points = panel.get("maxDataPoints", 300)
    step = max(1, math.ceil((end - start) / points))
    answers = [
        ask(Query(file, panel["title"], one["refId"], one["expr"], one["instant"], one.get("legendFormat", "")), step)
        for one in panel["targets"]
    ]
    match panel["type"]:
        case "stat":
            return drawing.stat(panel, answers, end)
        case "bargauge":
            return drawing.bargauge(panel, answers, end)
        case "table":
            return drawing.table(panel, answers, end)
        case "state-timeline":
            return drawing.state_timeline(panel, answers, start=start, end=end, width=width - 140)
        case _:
            return drawing.timeseries(panel, answers, end, start=start, end=end, width=width, height=height)


def draw(url: str, folder: Path, *, start: float, end: float) -> None:
    """Writes one PNG for each dashboard into the folder."""
    chromium = require("chromium", "chromium")

    def ask(query: Query, step: int) -> drawing.Series:
        values = {"deployment": ".+", "job": ".+", "__range": f"{round(end - start)}s", "__interval": f"{step}s"}
        return answer(url, query, values, start=start, end=end, step=step)

    folder.mkdir(parents=True, exist_ok=True)
    for file, dashboard in dashboards().items():
        text, height = page(file, dashboard, ask, start=start, end=end)
        html = (folder / file).with_suffix(".html").resolve()
        html.write_text(text, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{height}"]
        subprocess.run([chromium, *options, f"--screenshot={html.with_suffix('.png')}", html.as_uri()], check=True, capture_output=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prometheus", help="its address; without one the tests' night is run")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--end", type=float, default=time.time(), help="seconds since 1970")
    options = parser.parse_args()
    if options.prometheus:
        draw(options.prometheus, options.folder, start=options.end - options.hours * 3600, end=options.end)
        return
    with tempfile.TemporaryDirectory() as folder, told(Path(folder)) as story:
        draw(story.prometheus.url, options.folder, start=story.began, end=story.ended)


if __name__ == "__main__":
    main()
