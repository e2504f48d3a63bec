"""The shipped dashboards: whole, readable, about metrics that exist, and about all of them."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from taskpilot.domain.instruments import COUNTERS, DEPLOYMENT_GAUGES, GAUGES, HISTOGRAMS
from tests.integration.grafana.panels import FOLDER, dashboards, filled_in, panels, queries, rules

BOARDS: Final = dashboards()
OTHERS: Final = {
    "up",
    "ALERTS",
    "ALERTS_FOR_STATE",
    # The Pushgateway's own.
    "push_time_seconds",
    "push_failure_time_seconds",
    # Of a server that is scraped.
    "process_resident_memory_bytes",
}
"""Metrics that a panel may name and that are not ours."""
COLUMNS: Final = 24
LINE_MAX: Final = 140
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?=\{)|\btaskpilot[a-zA-Z0-9_:]*")
_STRING: Final = re.compile(r'"[^"]*"')


def exported() -> set[str]:
    """Every metric by the name that a query gives it."""
    return {one.name for one in (*COUNTERS, *HISTOGRAMS, *GAUGES, *DEPLOYMENT_GAUGES)}


def named(text: str) -> set[str]:
    """The metrics that a query names; a histogram by its own name."""
    histograms = {f"{one.name}{suffix}": one.name for one in HISTOGRAMS for suffix in ("_bucket", "_sum", "_count")}
    return {histograms.get(name, name) for name in _NAME.findall(_STRING.sub('""', text))}


def every_panel() -> list[tuple[str, dict[str, Any]]]:
    return [(name, panel) for name, board in BOARDS.items() for panel in panels(board)]


def test_there_are_five() -> None:
    assert {board["title"].removeprefix("TaskPilot · ") for board in BOARDS.values()} == {
        "Run history",
        "Golden signals",
        "Tokens and cost",
        "Policy and approvals",
        "Scheduler and telemetry health",
    }
    assert len({board["uid"] for board in BOARDS.values()}) == 5
    assert all(board["description"].endswith((".", "?")) for board in BOARDS.values())


def test_no_panel_names_a_metric_that_nobody_exports() -> None:
    known = exported() | OTHERS | set(rules())
    unknown = {query.place: missing for query in queries() if (missing := named(query.text) - known)}
    assert unknown == {}


def test_every_metric_is_on_a_panel_or_in_a_rule() -> None:
    shown: set[str] = set()
    for text in (*(query.text for query in queries() if not query.panel.startswith("annotation")), *rules().values()):
        shown |= named(text)
    assert exported() - shown == set()


def test_the_names_in_a_query_are_found() -> None:
    text = 'sum by (le) (taskpilot_run_duration_seconds_bucket{job="up{"} - taskpilot:day_budget_usd) / on (job_name) up{a="b"}'
    assert named(text) == {"taskpilot_run_duration_seconds", "taskpilot:day_budget_usd", "up"}


def test_a_counter_is_never_read_by_increase_or_rate() -> None:
    """They extrapolate; and a counter that never resets needs neither."""
    wrong = [query.place for query in queries() if re.search(r"\b(increase|i?rate|delta|resets)\s*\(", query.text)]
    assert wrong == []


def test_every_query_keeps_to_the_chosen_jobs_and_deployments() -> None:
    free = []
    for query in queries():
        for name, selector in re.findall(r"(taskpilot_\w+)\{([^}]*)\}", query.text):
            by_job = "$job" in selector or name.startswith(("taskpilot_scheduler", "taskpilot_store_info", "taskpilot_build_info"))
            # The day's budget is the whole deployment's.
            if not ("$deployment" in selector and (by_job or query.panel == "Burn of the day's budget")):
                free.append((query.place, name))
        free += [(query.place, name) for name in re.findall(r"(taskpilot_\w+)(?![\w{])", _STRING.sub("", query.text))]
    assert free == []


def test_every_variable_of_a_query_is_known() -> None:
    built_in = dict.fromkeys(("__range", "__interval"), "1s")
    for name, board in BOARDS.items():
        known = built_in | {variable["name"]: "x" for variable in board["templating"]["list"]}
        assert {"deployment", "job"} <= set(known), name
        for query in queries():
            if query.dashboard == name:
                filled_in(query.text, known)


@pytest.mark.parametrize("file", sorted(BOARDS))
def test_panels_have_ids_in_order_titles_of_their_own_and_room(file: str) -> None:
    every = BOARDS[file]["panels"]
    assert [panel["id"] for panel in every] == list(range(1, len(every) + 1))
    titles = [panel["title"] for panel in every]
    assert sorted(titles) == sorted(set(titles))
    places = [(panel["title"], panel["gridPos"]) for panel in every]
    for title, place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS, title
    for (one, a), (two, b) in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart, (one, two)


def test_every_panel_says_which_question_it_answers() -> None:
    assert [(file, panel["title"]) for file, panel in every_panel() if "?" not in panel["description"]] == []


def test_every_panel_has_a_unit_queries_with_ids_and_one_datasource() -> None:
    for file, panel in every_panel():
        place = f"{file} / {panel['title']}"
        assert panel["fieldConfig"]["defaults"]["unit"], place
        assert panel["targets"], place
        assert [target["refId"] for target in panel["targets"]] == [chr(ord("A") + n) for n in range(len(panel["targets"]))], place
        assert {json.dumps(target["datasource"]) for target in panel["targets"]} == {json.dumps(panel["datasource"])}, place


def test_every_column_that_a_table_renames_is_one_that_its_queries_give() -> None:
    for file, panel in every_panel():
        if panel["type"] != "table" or "transformations" not in panel:
            continue
        place = f"{file} / {panel['title']}"
        [organize] = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
        texts = " ".join(target["expr"] for target in panel["targets"])
        labels = set(re.split(r"[ ,]+", " ".join(re.findall(r"by \(([^)]*)\)", texts))))
        values = {"Value"} if len(panel["targets"]) == 1 else {f"Value #{target['refId']}" for target in panel["targets"]}
        assert set(organize["renameByName"]) <= labels | values, place
        shown = set(organize["renameByName"].values())
        assert {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]} <= shown, place


def test_datasources_have_the_uids_that_panels_and_links_name(repository: Path) -> None:
    [file] = (repository / "observability/grafana/provisioning/datasources").glob("*.yml")
    sources = {source["uid"]: source for source in yaml.safe_load(file.read_text())["datasources"]}
    assert {uid: source["type"] for uid, source in sources.items()} == {uid: uid for uid in ("prometheus", "jaeger", "elasticsearch")}
    text = file.read_text() + "".join(json.dumps(board) for board in BOARDS.values())
    assert set(re.findall(r'datasourceUid"?: "?(\w+)', text)) <= set(sources)
    used = {(panel["datasource"]["type"], panel["datasource"]["uid"]) for _file, panel in every_panel()}
    assert used == {(source["type"], uid) for uid, source in sources.items()}
    # Grafana reads a single dollar as a variable of its own environment.
    assert set(re.findall(r"(?<!\$)\$(\w+)", file.read_text())) == {"ELASTIC_PASSWORD"}


def test_a_trace_leads_to_its_lines_and_figures_and_a_line_to_its_trace(repository: Path) -> None:
    [file] = (repository / "observability/grafana/provisioning/datasources").glob("*.yml")
    sources = {source["uid"]: source["jsonData"] for source in yaml.safe_load(file.read_text())["datasources"]}
    assert sources["jaeger"]["tracesToLogsV2"]["datasourceUid"] == "elasticsearch"
    assert 'trace.id:"$${__trace.traceId}"' in sources["jaeger"]["tracesToLogsV2"]["query"]
    for query in sources["jaeger"]["tracesToMetrics"]["queries"]:
        assert named(query["query"]) <= exported()
    assert {(link["field"], link["datasourceUid"]) for link in sources["elasticsearch"]["dataLinks"]} >= {("trace.id", "jaeger")}


def test_the_provider_reads_the_folder_that_compose_mounts(repository: Path) -> None:
    [file] = (repository / "observability/grafana/provisioning/dashboards").glob("*.yml")
    [provider] = yaml.safe_load(file.read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def test_every_link_leads_somewhere() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    seen = set()
    for link in links(list(BOARDS.values())):
        address = urlsplit(re.sub(r"\$\{(\w+)[^}]*\}", lambda found: "http://page" if found[1] == "serve" else "x", link["url"]))
        seen.add(address.path)
        match address.path.split("/"):
            case ["", "explore"]:
                [pane] = json.loads(parse_qs(address.query)["panes"][0]).values()
                [query] = pane["queries"]
                assert (pane["datasource"], query["datasource"]["type"]) in {("jaeger", "jaeger"), ("elasticsearch", "elasticsearch")}
                assert "taskpilot." in query.get("tags", query.get("query"))
            case ["", "d", uid]:
                assert uid in uids
            case _:
                assert address.netloc == "page", link
    assert seen == {"/explore", "/d/taskpilot-run-history", "/", "/api/v1/runs"}


def links(value: Any) -> list[dict[str, str]]:
    """Every link of a field, wherever it is."""
    if isinstance(value, list):
        return [found for one in value for found in links(one)]
    if not isinstance(value, dict):
        return []
    return [value] if set(value) >= {"title", "url"} else [found for one in value.values() for found in links(one)]


def test_the_files_can_be_read() -> None:
    for path in FOLDER.glob("*.json"):
        long = [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > LINE_MAX and '"expr"' not in line]
        assert [line for line in long if not re.match(r' *"(description|url|query)": ', line)] == [], path.name
