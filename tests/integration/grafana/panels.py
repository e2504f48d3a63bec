"""The shipped dashboards as data: panels, their queries, and the queries as Grafana would send them."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

REPOSITORY: Final = Path(__file__).parents[3]
FOLDER: Final = REPOSITORY / "observability/grafana/dashboards"
_VARIABLE: Final = re.compile(r"\$\{?(\w+)(?::\w+)?\}?")


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    dashboard: str
    panel: str
    ref: str
    text: str
    """With Grafana's variables in it."""
    instant: bool
    legend: str

    @property
    def place(self) -> str:
        """Where to find it, for a message."""
        return f"{self.dashboard} / {self.panel} / {self.ref}"

    def filled_in(self, values: Mapping[str, str]) -> str:
        """As Prometheus gets it. Raises KeyError for a variable that has no value."""
        return filled_in(self.text, values)


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """The text with every `$name`, `${name}` and `${name:format}` replaced."""
    return _VARIABLE.sub(lambda found: values[found[1]], text)


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def rule_files() -> tuple[Path, ...]:
    """The shipped rules of Prometheus."""
    folder = REPOSITORY / "observability/prometheus"
    return tuple(sorted({*folder.glob("rules*.yml"), *folder.glob("rules/*.yml")}))


def rules() -> dict[str, str]:
    """The expression of each rule by the name that it records or raises."""
    groups = [group for path in rule_files() for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return {rule.get("record") or rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something: all but the headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> list[Query]:
    """Every query to Prometheus, those of the annotations too."""
    return [query for name, dashboard in dashboards().items() for query in _queries(name, dashboard)]


def _queries(name: str, dashboard: Mapping[str, Any]) -> Iterator[Query]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            if target["datasource"]["type"] == "prometheus":
                yield Query(name, panel["title"], target["refId"], target["expr"], target["instant"], target.get("legendFormat", ""))
    for annotation in dashboard["annotations"]["list"]:
        yield Query(name, f"annotation {annotation['name']}", "A", annotation["expr"], instant=False, legend="")


def answer(url: str, query: Query, values: Mapping[str, str], *, start: float, end: float, step: int) -> list[dict[str, Any]]:
    """What Prometheus answers for the time range: one entry a series with `metric`, and `value` or `values`. Raises HTTPError."""
    asked = {"query": query.filled_in(values)}
    asked |= {"time": str(end)} if query.instant else {"start": str(start), "end": str(end), "step": str(step)}
    path = "query" if query.instant else "query_range"
    with urllib.request.urlopen(f"{url}/api/v1/{path}", data=urllib.parse.urlencode(asked).encode(), timeout=30) as reply:
        return list(json.load(reply)["data"]["result"])
