"""A panel's answer as HTML and SVG, near enough to Grafana to see whether the panel answers its question."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

Series = list[dict[str, Any]]
Panel = Mapping[str, Any]

_PALETTE: Final = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a")
_COLORS: Final = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c", "blue": "#5794f2", "orange": "#ff9830", "purple": "#b877d9"}
_MORE: Final = {"text": "#ccccdc", "dark-orange": "#fa6400", "dark-red": "#c4162a"}
_PERIODS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def color(name: str) -> str:
    """A colour of Grafana's palette as CSS."""
    return (_COLORS | _MORE).get(name, name)


def shown(value: float, defaults: Mapping[str, Any], *, now: float) -> str:
    """A number in the panel's unit; nothing for what is no number."""
    if math.isnan(value):
        return ""
    unit, digits = defaults.get("unit"), defaults.get("decimals")
    if unit in {"dateTimeFromNow", "dateTimeAsIso"}:
        away = value / 1000 - now
        if unit == "dateTimeAsIso":
            return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        return f"in {_lasting(away)}" if away > 0 else f"{_lasting(-away)} ago"
    if unit == "percentunit":
        return f"{100 * value:.{1 if digits is None else digits}f} %"
    if unit == "currencyUSD":
        return f"${value:,.{2 if digits is None else digits}f}"
    if unit == "s":
        return _lasting(value)
    if unit == "short" and abs(value) >= 1_000:
        power = min(2, int(math.log(abs(value), 1_000)))
        return f"{value / 1_000**power:,.1f} {('', 'K', 'Mil')[power]}"
    return f"{value:,.{0 if value == int(value) else 2}f}"


def _lasting(seconds: float) -> str:
    for word, size in _PERIODS:
        if seconds >= size:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.1f} s"


def _threshold(value: float, steps: Iterable[Mapping[str, Any]]) -> str:
    return [color(step["color"]) for step in steps if step["value"] is None or value >= step["value"]][-1]


def _mapped(value: object, mappings: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    key = f"{value:g}" if isinstance(value, float) else str(value)
    return next((one["options"][key] for one in mappings if key in one["options"]), None)


def _legend(texts: Sequence[tuple[str, str]]) -> str:
    return "<div class=legend>" + " ".join(f"<span style='color:{tint}'>■</span> {escape(text)}" for text, tint in texts) + "</div>"


def _name(one: Mapping[str, Any], pattern: str) -> str:
    for label, value in one["metric"].items():
        pattern = pattern.replace("{{" + label + "}}", value)
    return pattern


def stat(panel: Panel, answers: Sequence[Series], now: float) -> str:
    """One large number."""
    defaults = panel["fieldConfig"]["defaults"]
    if not answers[0]:
        return f"<div class=stat>{escape(defaults['noValue'])}</div>"
    value = float(answers[0][0]["value"][1])
    mapped = _mapped(value, defaults.get("mappings", ()))
    tint = color(mapped["color"]) if mapped else _threshold(value, defaults["thresholds"]["steps"])
    return f"<div class=stat style='color:{tint}'>{escape(mapped['text'] if mapped else shown(value, defaults, now=now))}</div>"


def bargauge(panel: Panel, answers: Sequence[Series], now: float) -> str:
    """One horizontal bar a series."""
    defaults = panel["fieldConfig"]["defaults"]
    values = [(_name(one, panel["targets"][0]["legendFormat"]), float(one["value"][1])) for one in answers[0]]
    most = defaults.get("max") or max((value for _, value in values if not math.isnan(value)), default=0) or 1
    rows = []
    for name, value in sorted(values):
        width = 0 if math.isnan(value) else 100 * min(1, value / most)
        tint = _threshold(value, defaults["thresholds"]["steps"])
        bar = f"<i style='width:{width:.1f}%;background:{tint}'></i>"
        rows.append(f"<tr><td>{escape(name)}<td class=bar>{bar}<td>{escape(shown(value, defaults, now=now))}")
    return f"<table>{''.join(rows)}</table>" if rows else "<div class=stat>no data</div>"


def timeseries(panel: Panel, answers: Sequence[Series], now: float, *, start: float, end: float, width: int, height: int) -> str:
    """Lines, or bars that stand on each other."""
    defaults = panel["fieldConfig"]["defaults"]
    fixed = {
        one["matcher"]["options"]: prop["value"]["fixedColor"]
        for one in panel["fieldConfig"]["overrides"]
        for prop in one["properties"]
        if prop["id"] == "color"
    }
    named = [
        (_name(one, target["legendFormat"]), one["values"])
        for target, found in zip(panel["targets"], answers, strict=True)
        for one in found
    ]
    bars = defaults["custom"]["drawStyle"] == "bars"
    heap: dict[float, float] = {}
    for _, values in named:
        for at, value in values:
            number = float(value)
            if not math.isnan(number):
                heap[at] = heap.get(at, 0.0) + number if bars else max(heap.get(at, 0.0), number)
    top = defaults.get("max") or max(heap.values(), default=0) * 1.05 or 1
    marks, floor, legend = [], dict.fromkeys(heap, 0.0), []
    for number, (name, values) in enumerate(named):
        tint = color(fixed.get(name, _PALETTE[number % len(_PALETTE)]))
        legend.append((name, tint))
        places = [(width * (at - start) / (end - start), float(value), at) for at, value in values if not math.isnan(float(value))]
        if bars:
            wide = width / 60
            for x, value, at in places:
                y = height * (1 - (floor[at] + value) / top)
                marks.append(f"<rect x='{x - wide:.1f}' y='{y:.1f}' width='{wide:.1f}' height='{height * value / top:.1f}' fill='{tint}'/>")
                floor[at] += value
        else:
            line = " ".join(f"{x:.1f},{height * (1 - value / top):.1f}" for x, value, _ in places)
            marks.append(f"<polyline points='{line}' fill='none' stroke='{tint}' stroke-width='1.5'/>")
    axis = f"<text x='2' y='10'>{escape(shown(top, defaults, now=now))}</text>"
    body = "".join(marks) if named else f"<text x='{width / 2}' y='{height / 2}'>no data</text>"
    return f"<svg width='{width}' height='{height}'>{body}{axis}</svg>" + _legend(legend)


def state_timeline(panel: Panel, answers: Sequence[Series], *, start: float, end: float, width: int) -> str:
    """A row of colours for each series."""
    mappings = panel["fieldConfig"]["defaults"]["mappings"]
    rows = []
    for one in sorted(answers[0], key=lambda found: _name(found, panel["targets"][0]["legendFormat"])):
        marks = []
        values = one["values"]
        for (at, value), (until, _) in zip(values, [*values[1:], (end, "")], strict=True):
            x, wide = width * (at - start) / (end - start), width * (until - at) / (end - start)
            mapped = _mapped(float(value), mappings)
            assert mapped is not None, f"{value} has no colour"
            marks.append(f"<rect x='{x:.1f}' y='0' width='{wide + 0.2:.1f}' height='22' fill='{color(mapped['color'])}'/>")
        name = _name(one, panel["targets"][0]["legendFormat"])
        rows.append(f"<tr><td>{escape(name)}<td><svg width='{width}' height='22'>{''.join(marks)}</svg>")
    texts = [(option["text"], color(option["color"])) for option in mappings[0]["options"].values()]
    return f"<table>{''.join(rows)}</table>" + _legend(texts)


def table(panel: Panel, answers: Sequence[Series], now: float) -> str:
    """Rows that are merged over the queries by their labels, with the columns as they are renamed."""
    [organize] = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
    shared = set.intersection(*(set(one["metric"]) for found in answers for one in found)) if any(answers) else set()
    rows: dict[tuple[str, ...], dict[str, str | float]] = {}
    for target, found in zip(panel["targets"], answers, strict=True):
        for one in found:
            row = rows.setdefault(tuple(one["metric"][label] for label in sorted(shared)), {})
            row |= one["metric"] | {"Value" if len(answers) == 1 else f"Value #{target['refId']}": float(one["value"][1])}
    columns = sorted(organize["renameByName"], key=lambda field: organize["indexByName"][field])
    names = organize["renameByName"]
    properties = {
        one["matcher"]["options"]: {prop["id"]: prop["value"] for prop in one["properties"]} for one in panel["fieldConfig"]["overrides"]
    }
    for order in panel["options"].get("sortBy", ()):
        field = next(field for field, name in names.items() if name == order["displayName"])
        ordered = sorted(rows.items(), key=lambda item: item[1].get(field, -math.inf), reverse=order["desc"])
        rows = dict(ordered)
    head = "".join(f"<th>{escape(names[column])}" for column in columns)
    lines = [
        "".join(f"<td>{_cell(row.get(column, ''), properties.get(names[column], {}), now)}" for column in columns) for row in rows.values()
    ]
    return f"<table><tr>{head}<tr>{'<tr>'.join(lines)}</table>" if lines else "<div class=stat>nothing</div>"


def _cell(value: str | float, properties: Mapping[str, Any], now: float) -> str:
    mapped = _mapped(value, properties.get("mappings", ()))
    text = str(mapped.get("text", value)) if mapped else shown(value, properties, now=now) if isinstance(value, float) else value
    tint = color(mapped["color"]) if mapped else "inherit"
    if mapped is None and "thresholds" in properties and isinstance(value, float):
        tint = _threshold(value, properties["thresholds"]["steps"])
    if "links" in properties:
        return f"<a style='color:#6e9fff'>{escape(text)}</a>"
    return f"<span style='color:{tint}'>{escape(text)}</span>"
