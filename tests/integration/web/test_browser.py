"""The pages in a real Chromium: each page and action, live updates, hostile text, and what people with other eyes and hands need."""

from collections.abc import Iterator
from typing import Any

import pytest

from taskpilot.domain.runs import RunStatus
from taskpilot.store.tables import runs
from tests.integration.web.browser import HOSTILE, Story, Watched, axe, chromium, told
from tests.integration.web.serving import TOKEN, Served, make_root, serving
from tests.records import add_decision, add_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 120_000
"""Milliseconds: what takes longer than this is stuck, however busy the machine is."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(make_root(tmp_path_factory.mktemp("page")), token=TOKEN, read_token="look-only") as server:
        yield server


@pytest.fixture(scope="module")
def story(served: Served) -> Story:
    return told(served)


@pytest.fixture
def watched() -> Iterator[Watched]:
    found = Watched()
    yield found
    assert found.errors == []


def opened(browser: Any, watched: Watched, served: Served, **options: Any) -> Any:
    context = browser.new_context(base_url=served.server.url, **options)
    context.set_default_timeout(PATIENCE)
    return watched.follow(context.new_page())


def logged_in(browser: Any, watched: Watched, served: Served, **options: Any) -> Any:
    page = opened(browser, watched, served, **options)
    page.goto(served.server.login_link)
    return page


def every_page(story: Story) -> list[str]:
    run = f"/runs/{story.waiting}"
    return [
        "/",
        "/jobs/triage",
        "/runs",
        run,
        f"/runs/{story.failed}",
        "/approvals",
        "/fires",
        "/decisions",
        "/system",
        "/docs",
        "/docs/http",
    ]


def test_no_page_shows_hostile_text_as_markup_or_is_wider_than_a_phone_or_larger_than_100_kb(
    browser: Any, watched: Watched, served: Served, story: Story
) -> None:
    for scheme in ("light", "dark"):
        page = logged_in(browser, watched, served, viewport={"width": 360, "height": 740}, color_scheme=scheme)
        for path in every_page(story):
            answer = page.goto(path)
            assert answer.status == 200, path
            assert "owned" not in page.title()
            assert page.locator("main img[src=x], main script").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            if not path.startswith("/docs"):
                assert len(answer.body()) < 100_000, path
                assert "\u202e" not in page.content()
        page.context.close()


def test_no_page_has_a_violation_that_axe_finds(
    browser: Any, watched: Watched, served: Served, story: Story, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = axe(tmp_path_factory.mktemp("axe"))
    for scheme in ("light", "dark"):
        page = logged_in(browser, watched, served, viewport={"width": 1400, "height": 900}, color_scheme=scheme)
        for path in [*every_page(story), "/login"]:
            page.goto(path)
            page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            page.evaluate(source)
            found = page.evaluate(
                "axe.run().then(found => found.violations.map(one => [one.id, one.nodes.map(node => node.html.slice(0, 200))]))"
            )
            assert found == [], (path, scheme)
        page.context.close()


def test_without_a_script_one_logs_in_acts_and_logs_out(browser: Any, watched: Watched, served: Served, story: Story) -> None:
    page = opened(browser, watched, served, java_script_enabled=False)
    page.goto(f"/runs/{story.failed}")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="log in").click()
    page.wait_for_url(f"**/runs/{story.failed}")
    page.get_by_role("button", name="rerun").click()
    page.get_by_text("is queued").wait_for()
    page.get_by_role("button", name="cancel").click()
    page.get_by_text("cancelled").first.wait_for()
    page.goto("/jobs/triage")
    page.get_by_role("textbox", name="Note").fill("the tracker moves")
    page.get_by_role("button", name="pause").click()
    page.get_by_text("the tracker moves").first.wait_for()
    page.get_by_role("button", name="resume").click()
    page.get_by_role("button", name="pause").wait_for()
    page.get_by_label("wishes").fill("tea")
    page.get_by_label("times").fill("3")
    page.get_by_role("button", name="run now").click()
    page.get_by_text("is queued").wait_for()
    run = served.get("/api/v1/runs/last", Authorization=f"Bearer {TOKEN}").json()
    assert run["parameters"] == {"wishes": "tea", "times": 3, "share": 0.5}
    page.get_by_role("button", name="cancel").click()
    page.goto(f"/runs/{story.succeeded}")
    page.get_by_role("button", name="the result is correct").click()
    page.get_by_text("rated correct").wait_for()
    page.get_by_role("button", name="log out").click()
    page.goto(f"/runs/{story.failed}")
    page.get_by_label("Token").wait_for()
    page.context.close()


def test_several_questions_are_answered_at_once_and_one_alone(browser: Any, watched: Watched, served: Served, story: Story) -> None:
    page = logged_in(browser, watched, served)
    page.goto(f"/runs/{story.waiting}")
    with page.expect_download() as download:
        page.get_by_role("link", name="report.md").click()
    assert download.value.path().read_text() == "# Report\n"
    page.locator("summary").filter(has_text="open_ticket").click()
    page.get_by_text("the tracker is away").wait_for()
    page.goto("/approvals")
    assert "2000" in page.locator("main").inner_text()
    page.get_by_role("checkbox").first.check()
    page.get_by_role("checkbox").nth(1).check()
    page.get_by_label("Note for the chosen").fill("asked finance")
    page.get_by_role("button", name="approve the chosen").click()
    page.get_by_text("Nothing waits for you.").wait_for()
    answered = served.get(f"/api/v1/decisions/{story.decision}").json()
    assert (answered["status"], answered["settled_by"], answered["note"]) == ("approved", "page", "asked finance")
    assert served.get(f"/api/v1/tasks/{story.task}").json()["status"] == "approved"
    other = add_run(served.deployment.store, job="reads", status=RunStatus.WAITING)
    refused = add_decision(served.deployment.store, other, job="reads")
    page.goto("/approvals")
    page.get_by_role("button", name="reject").click()
    page.get_by_text("Nothing waits for you.").wait_for()
    assert served.get(f"/api/v1/decisions/{refused}").json()["status"] == "rejected"
    page.goto("/incidents")
    page.get_by_role("button", name="acknowledge").click()
    page.get_by_text("acknowledged by page").wait_for()
    assert served.get("/api/v1/incidents").json()["items"][0]["state"] == "acknowledged"
    page.context.close()


def test_a_page_follows_the_record_and_keeps_what_is_open_and_typed(browser: Any, watched: Watched, served: Served, story: Story) -> None:
    page = logged_in(browser, watched, served, timezone_id="Asia/Tokyo", locale="en-GB")
    page.goto(f"/runs/{story.waiting}")
    page.get_by_text("live", exact=True).wait_for()
    # 12:00 UTC.
    page.get_by_text("21:00:00").first.wait_for()
    details = page.locator("details").filter(has_text="open_ticket")
    details.locator("summary").click()
    with served.deployment.store.write() as connection:
        connection.execute(runs.update().where(runs.c.id == story.waiting).values(progress_done=3, progress_total=7))
    page.get_by_text("(3 of 7)").wait_for()
    assert details.get_attribute("open") is not None
    page.goto("/jobs/triage")
    page.get_by_label("wishes").fill("half a wi")
    page.get_by_text("live", exact=True).wait_for()
    new = add_run(served.deployment.store)
    page.get_by_role("link", name=f"Run {new[-8:]}").wait_for()
    assert page.get_by_label("wishes").input_value() == "half a wi"
    page.context.close()


def test_a_reader_sees_all_and_has_no_button(browser: Any, watched: Watched, served: Served, story: Story) -> None:
    page = opened(browser, watched, served)
    page.goto("/login")
    page.get_by_label("Token").fill("look-only")
    page.get_by_role("button", name="log in").click()
    page.get_by_text("read only").wait_for()
    for path in (f"/runs/{story.waiting}", "/jobs/triage", "/approvals"):
        page.goto(path)
        names = [one.inner_text() for one in page.get_by_role("button").all()]
        assert set(names) <= {"log out", "filter"}, path
    page.goto(f"/runs/{story.failed}")
    assert HOSTILE[:40] in page.locator("main").inner_text()
    page.context.close()


def test_a_link_of_another_site_finds_the_session_again(browser: Any, watched: Watched, served: Served, story: Story) -> None:
    page = logged_in(browser, watched, served)
    address = f"{served.server.url}/runs/{story.failed}"
    page.goto(f"data:text/html,<a href='{address}'>go</a>")
    page.get_by_role("link", name="go").click()
    page.get_by_role("button", name="rerun").wait_for()
    page.context.close()
