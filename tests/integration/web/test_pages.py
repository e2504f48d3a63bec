"""What a browser gets: one page with nothing from elsewhere, and no word of a model's in it as markup."""

import base64
import hashlib
import re
from functools import cache, partial
from html.parser import HTMLParser

import pytest

from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.views.documentation import topics
from tests.integration.web.serving import Served
from tests.records import add_run, raised

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}


def page(served: Served, path: str) -> Elements:
    reply = served.get(path, Accept=BROWSER)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    text = reply.body.decode()
    # Style and script are the ones that the answer's policy allows; a browser would drop any other.
    for kind, begin, end in (("style", "<style>", "</style>"), ("script", '<script type="module">', "</script>")):
        (own,) = re.findall(f"{begin}(.*?){end}", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in reply.headers["content-security-policy"]
    return Elements(text)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (BROWSER, "text/html"),
        ("text/html", "text/html"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("text/html;q=0", "application/json"),
        ("text/html;q=x", "application/json"),
    ],
)
def test_the_root_is_a_page_for_browsers_and_json_for_programs(served: Served, accept: str, kind: str) -> None:
    reply = served.get("/", Accept=accept)
    assert reply.headers["content-type"].partition(";")[0] == kind
    assert reply.headers["vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_and_links_only_to_what_is_there(served: Served, path: str) -> None:
    add_run(served.deployment.store)
    found = page(served, path)
    assert not found.names() & {"img", "iframe", "object"}
    assert [attributes["href"] for tag, attributes in found.tags if tag == "link"] == ["/favicon.svg"]
    links = {attributes["href"] for tag, attributes in found.tags if tag == "a"}
    assert len(links) > 1
    for link in links:
        assert link is not None
        if link.startswith("#"):
            continue
        # What is in a run is for people who are logged in.
        reply = served.get(link)
        assert reply.status == 200 or reply.headers["location"].startswith("/login"), link
    headings = [tag for tag, attributes in found.tags if tag == "th" and attributes.get("scope") != "col"]
    assert not headings


def test_the_history_names_jobs_runs_and_why(served: Served) -> None:
    run_id = add_run(served.deployment.store, status=RunStatus.TIMED_OUT, reason=Reason(ReasonCode.DEADLINE, {"deadline_seconds": 3600}))
    text = page(served, "/").text
    for word in (served.deployment.store.deployment, "triage", "timed out", "the deadline of 1h passed", "0.0020", "2.0 s", run_id[-8:]):
        assert word in text


def test_a_model_s_words_are_text_and_nothing_else(served: Served) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m\u202egnirts <img src=x onerror=y>"
    add_run(served.deployment.store, status=RunStatus.FAILED, reason=raised(hostile), job="<b>x</b>")
    found = page(served, "/")
    assert not found.names() & {"img", "b"}
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert "<script>alert(1)</script>\\x1b[31m\\u202egnirts" in found.text
    assert "Turn wishes into reviewed <b>tasks</b>." in found.text


def test_a_page_says_so_where_the_store_cannot_be_read(served: Served) -> None:
    store = served.deployment.store
    store.close()
    store.path.rename(store.path.with_name("away.db"))
    text = page(served, "/").text
    assert "fail" in text
    assert "gone" in text


def test_each_page_of_the_documentation_is_there_with_links_that_lead_somewhere(served: Served) -> None:
    shown = cache(partial(page, served))
    for topic in topics():
        found = shown(f"/docs/{topic.name}")
        assert topic.title in found.text
        assert not found.names() & {"iframe", "form", "object"}
        for source in {attributes["src"] for tag, attributes in found.tags if tag == "img"}:
            assert source is not None
            picture = served.get(f"/docs/{source}")
            assert (picture.status, picture.headers["content-type"].partition("/")[0]) == (200, "image")
        for link in {attributes["href"] for tag, attributes in found.tags if tag == "a"}:
            assert link is not None
            if link.startswith(("/docs", "#")):
                target, _, heading = link.partition("#")
                linked = shown(target or f"/docs/{topic.name}")
                assert not heading or heading in {attributes.get("id") for _, attributes in linked.tags}, link
    for wrong in ("/docs/nothing", "/docs/..%2Fhttp", "/docs/jobs.md", "/docs/nothing.png", "/docs/..%2Fpolicy%2Fdefault.rego"):
        assert served.get(wrong).status == 404


def test_the_api_can_be_read_about(served: Served) -> None:
    text = page(served, "/docs").text
    for path in served.get("/openapi.json").json()["paths"]:
        assert path in text
    assert "queued | running | waiting" in text
