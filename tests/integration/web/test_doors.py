"""Who may ask what: hosts, tokens, other sites, and bodies that are no requests."""

import re
import socket
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from taskpilot.web import audit, auth, sessions
from tests.integration.web.serving import TOKEN, Reply, Served, make_root, serving

OPEN = ("/livez", "/readyz", "/metrics")
GUARDED = ("/", "/health", "/golden-signals", "/docs", "/openapi.json", "/api/v1/jobs", "/api/v1/runs", "/nothing-here")


HEAD_OF_TWO_BYTES = f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2\r\n\r\n"


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000"])
def test_a_host_of_ours_is_let_in(served: Served, host: str) -> None:
    assert served.get("/health", Host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.", "", "a b", "0x7f000001"])
def test_a_foreign_domain_that_resolves_to_this_machine_is_refused(served: Served, host: str) -> None:
    for path in ("/health", "/livez", "/metrics", "/"):
        refused = served.get(path, Host=host)
        assert refused.status == 421
        assert "--host" in refused.json()["detail"]


def test_a_monitor_in_a_container_may_use_the_container_s_name_of_this_machine(served: Served) -> None:
    for path in OPEN:
        assert served.get(path, Host="host.docker.internal:8000").status == 200
    assert served.get("/health", Host="host.docker.internal:8000").status == 421


def test_every_answer_forbids_what_a_page_does_not_need(served: Served) -> None:
    for path in ("/", "/docs", "/health", "/nothing-here"):
        headers = served.get(path, Accept="text/html").headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    assert served.get("/health", Host="evil.example").headers["x-content-type-options"] == "nosniff"


def test_where_none_is_set_the_server_has_a_token_of_its_own_that_stays(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    file = root / ".taskpilot" / "api_token"
    with serving(root) as served:
        assert served.post("/api/v1/jobs/triage/run", {}, token="guessed").status == 401
        assert served.audited() == [("anonymous", "jobs.run", "triage", "401")]
        assert served.stage.woken == 0
        token = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600
        assert served.post("/api/v1/jobs/triage/run", {}, token=token).status == 202
        assert token not in served.deployment.redactor.masked(f"it is {token}")
    # Others could have read it, or put a link in its place: then it is none.
    file.chmod(0o640)
    with serving(root) as served:
        assert file.read_text().strip() != token
        assert file.stat().st_mode & 0o777 == 0o600
        token = file.read_text().strip()
    with serving(root) as served:
        assert served.get("/api/v1/runs/last/steps", **bearer(token)).status == 200


def test_the_read_token_may_only_read(tmp_path: Path) -> None:
    with serving(make_root(tmp_path), token=TOKEN, read_token="look-only", host="0.0.0.0") as served:
        run_id = served.post("/api/v1/jobs/triage/run", {}).json()["run_id"]
        for path in ("/health", "/api/v1/runs", f"/api/v1/runs/{run_id}/steps"):
            assert served.get(path, **bearer("look-only")).status == 200
        refused = served.post(f"/api/v1/runs/{run_id}/cancel", token="look-only")
        assert (refused.status, refused.json()["detail"]) == (403, "this token may only read")
        assert served.audited()[-1] == ("api", "runs.cancel", run_id, "403")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic " + TOKEN, TOKEN, "Bearer \xe9"])
def test_without_the_right_token_nothing_is_written(guarded: Served, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    refused = guarded.post("/api/v1/jobs/triage/run", {}, token=None, headers=headers)
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert guarded.get("/api/v1/runs").json()["items"] == []
    assert guarded.audited() == [("anonymous", "jobs.run", "triage", "401")]


def test_requests_without_a_token_cannot_fill_the_store(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ANONYMOUS_A_MINUTE", 3)
    for _ in range(9):
        assert guarded.post("/api/v1/jobs/triage/run", token="guessed").status == 401
    # A minute may end in between: then there are two of them.
    assert len(guarded.audited()) in (3, 4, 5, 6)
    assert guarded.post("/api/v1/jobs/triage/run").status == 202
    assert guarded.audited()[-1][0] == "api"


def test_another_site_s_page_may_not_write(guarded: Served) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert guarded.post("/api/v1/jobs/triage/run", {}, headers={"Origin": origin}).status == 403
    ours = f"http://127.0.0.1:{guarded.port}"
    assert guarded.post("/api/v1/jobs/triage/run", {}, headers={"Origin": ours}).status == 202
    assert [answer.partition(" ")[0] for *_, answer in guarded.audited()] == ["403", "403", "403", "202"]


def test_a_body_is_bounded_json_or_refused(guarded: Served) -> None:
    path = "/api/v1/jobs/triage/run"
    as_json = bearer() | {"Content-Type": "application/json"}
    assert guarded.ask("POST", path, body=b"{}", headers=bearer() | {"Content-Type": "text/plain"}).status == 415
    assert guarded.ask("POST", path, body=b"{}", headers=bearer()).status == 415
    assert guarded.ask("POST", path, body=b"x" * (auth.BODY_MAX + 1), headers=as_json).status == 413
    for broken in (b"{", b"\xff", b'{"parameters": {"share": NaN}}', b"[" * 50_000):
        assert guarded.ask("POST", path, body=broken, headers=as_json).json()["detail"] == "the body is not valid JSON"
    for unfit in (b"[]", b'"x"', b'{"unknown": 1}'):
        refused = guarded.ask("POST", path, body=unfit, headers=as_json)
        assert refused.status == 422, unfit
        assert refused.headers["content-type"] == "application/problem+json"
    assert guarded.get("/api/v1/runs").json()["items"] == []


def test_a_body_that_never_comes_gets_no_thread(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=60) as plug:
        plug.sendall(f"POST /api/v1/jobs/triage/run {HEAD_OF_TWO_BYTES}".encode())
        assert plug.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert guarded.get("/api/v1/runs").json()["items"] == []


def test_half_a_request_is_none(guarded: Served) -> None:
    """Who leaves in the middle of a body did not ask for anything, though nothing at all would be a body too."""
    run_id = guarded.post("/api/v1/jobs/triage/run").json()["run_id"]
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=60) as plug:
        head = (
            f"POST /api/v1/runs/{run_id}/cancel HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2\r\n\r\n"
        )
        plug.sendall(head.encode())
    give_up = time.monotonic() + 60
    while len(guarded.audited()) < 2:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert guarded.audited()[1][1:] == ("runs.cancel", run_id, "408")
    assert guarded.get(f"/api/v1/runs/{run_id}").json()["status"] == "queued"


def test_on_another_address_without_a_token_only_a_monitor_is_answered(tmp_path: Path) -> None:
    with serving(make_root(tmp_path), host="0.0.0.0") as everywhere:
        assert everywhere.server.url.startswith("http://127.0.0.1:")
        for path in OPEN:
            assert everywhere.get(path).status == 200
        for path in GUARDED:
            refused = everywhere.get(path)
            assert refused.status == 403, path
            assert "only /livez, /readyz, /metrics and /login" in refused.json()["detail"]
        assert everywhere.post("/api/v1/jobs/triage/run", {}).status == 403


def test_on_another_address_reading_needs_the_token(tmp_path: Path) -> None:
    with serving(make_root(tmp_path), token=TOKEN, host="0.0.0.0") as everywhere:
        for path in OPEN:
            assert everywhere.get(path).status == 200
        for path in GUARDED:
            assert everywhere.get(path).status == 401, path
            assert everywhere.get(path, Authorization="Bearer guessed").status == 401
            assert everywhere.get(path, **bearer()).status == (404 if path == "/nothing-here" else 200), path
        described = everywhere.get("/openapi.json", **bearer()).json()["paths"]
        assert "security" in described["/health"]["get"]
        assert "security" not in described["/livez"]["get"]


def test_a_path_that_only_looks_open_is_not(tmp_path: Path) -> None:
    with serving(make_root(tmp_path), host="0.0.0.0") as everywhere:
        for path in ("/livez/", "//livez", "/livez/../health", "/metrics%2f..%2fhealth", "/LIVEZ", "http://localhost/health"):
            assert everywhere.get(path).status == 403, path


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BROWSER = {"Accept": "text/html"}


def cookie_of(reply: Reply) -> dict[str, str]:
    kept = reply.headers["set-cookie"]
    assert "HttpOnly" in kept
    assert "samesite=strict" in kept.lower()
    return {"Cookie": kept.partition(";")[0]}


def log_in(served: Served, token: str = TOKEN, target: str = "/") -> Reply:
    return served.ask("POST", "/login", body=urlencode({"token": token, "next": target}).encode(), headers=FORM)


def csrf_of(served: Served, cookie: dict[str, str]) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', served.ask("GET", "/", headers=cookie | BROWSER).body.decode())
    assert found is not None
    return found[1]


def test_the_login_link_and_the_token_begin_a_session_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(make_root(tmp_path), token=TOKEN) as served:
        link = served.server.login_link
        assert link is not None
        by_link = served.get(link.removeprefix(served.server.url))
        assert (by_link.status, by_link.headers["location"]) == (303, "/")
        assert link.rpartition("=")[2] not in served.deployment.redactor.masked(link)
        by_token = log_in(served, target="/docs")
        assert (by_token.status, by_token.headers["location"]) == (303, "/docs")
        run_id = served.post("/api/v1/jobs/triage/run", {}).json()["run_id"]
        steps = f"/api/v1/runs/{run_id}/steps"
        for reply in (by_link, by_token):
            cookie = cookie_of(reply)
            assert served.get(steps, **cookie).status == 200
            out = urlencode({"csrf": csrf_of(served, cookie)}).encode()
            assert served.ask("POST", "/logout", body=out, headers=cookie | FORM).status == 303
            assert served.get(steps, **cookie).status == 401
        cookie = cookie_of(log_in(served))
        monkeypatch.setattr(sessions, "IDLE_SECONDS", -1.0)
        assert served.get(steps, **cookie).status == 401
        assert next(row for row in served.audited() if row[1] == "POST") == ("anonymous", "POST", "/login", "303")


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "/\nx", ""])
def test_a_login_leads_to_no_other_site(guarded: Served, target: str) -> None:
    assert log_in(guarded, target=target).headers["location"] == "/"


def test_a_session_writes_only_with_its_own_csrf_token_from_our_own_page(guarded: Served) -> None:
    cookie = cookie_of(log_in(guarded))
    token = csrf_of(guarded, cookie)
    run = "/api/v1/jobs/triage/run"
    theirs = csrf_of(guarded, cookie_of(log_in(guarded)))
    for given in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": theirs}, {"X-CSRF-Token": token, "Origin": "http://evil.example"}):
        assert guarded.ask("POST", run, headers=cookie | given).status == 403
    assert guarded.ask("POST", run, headers=cookie | {"X-CSRF-Token": token}).status == 202
    # Its token is no bearer token, and a wrong bearer token is not mended by a cookie.
    assert guarded.ask("POST", run, headers=cookie | {"X-CSRF-Token": token} | bearer("x")).status == 401
    assert log_in(guarded).status == 303
    assert guarded.ask("POST", "/login", body=b"token=" + TOKEN.encode(), headers=FORM | {"Origin": "http://evil.example"}).status == 403


def test_ten_wrong_logins_a_minute_are_the_most_for_tokens_and_codes_together(guarded: Served) -> None:
    for turn in range(10):
        wrong = log_in(guarded, "guessed") if turn % 2 else guarded.get("/login?code=guessed")
        assert wrong.status == 401
        assert "set-cookie" not in wrong.headers
    assert log_in(guarded, "guessed").status == 429
    assert log_in(guarded).status == 429
    # A right code has 256 random bits: nobody can lock out who has the link.
    link = guarded.server.login_link
    assert link is not None
    assert guarded.get(link.removeprefix(guarded.server.url)).status == 303


def test_a_link_of_another_site_is_followed_by_our_own_page_where_the_cookie_was_left_out(guarded: Served) -> None:
    crossing = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"} | BROWSER
    page = guarded.ask("GET", '/docs?a=1&"><b>', headers=crossing).body.decode()
    assert '<meta http-equiv="refresh" content="0;url=/docs?a=1&amp;&#34;&gt;&lt;b&gt;">' in page
    with_cookie = cookie_of(log_in(guarded))
    assert "refresh" not in guarded.ask("GET", "/", headers=crossing | with_cookie).body.decode()


def test_a_browser_without_a_session_is_led_to_the_login_where_reading_needs_one(tmp_path: Path) -> None:
    with serving(make_root(tmp_path), token=TOKEN, host="0.0.0.0") as everywhere:
        assert everywhere.server.login_link is None
        led = everywhere.get("/docs", **BROWSER)
        assert (led.status, led.headers["location"]) == (303, "/login?next=/docs")
        assert everywhere.get("/api/v1/runs", **BROWSER).status == 401
        assert b'type="password"' in everywhere.get("/login").body
        assert everywhere.get("/docs", **cookie_of(log_in(everywhere))).status == 200


def test_under_its_public_name_reading_needs_a_login_and_the_cookie_is_secure(tmp_path: Path) -> None:
    with serving(make_root(tmp_path, '[web]\npublic_url = "https://jobs.example"\n'), token=TOKEN) as served:
        assert served.get("/health").status == 200
        public = {"Host": "jobs.example"}
        assert served.ask("GET", "/health", headers=public).status == 401
        assert served.ask("GET", "/livez", headers=public).status == 200
        assert served.ask("GET", "/", headers=public | BROWSER).headers["location"] == "/login"
        assert served.ask("GET", "/health", headers=public | bearer()).status == 200
        assert "secure" in log_in(served).headers["set-cookie"].lower()
