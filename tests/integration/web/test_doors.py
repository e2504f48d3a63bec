"""Who may ask what: hosts, tokens, other sites, and bodies that are no requests."""

import socket
import time
from pathlib import Path

import pytest

from taskpilot.web import audit, auth
from tests.integration.web.serving import TOKEN, Served, make_root, serving

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


def test_without_a_token_writing_is_off(served: Served) -> None:
    refused = served.post("/api/v1/jobs/triage/run", {}, token="guessed")
    assert refused.status == 403
    assert "TASKPILOT_API_TOKEN" in refused.json()["hint"]
    assert served.audited() == [("anonymous", "jobs.run", "triage", "403")]
    assert served.stage.woken == 0


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
            assert "only /livez, /readyz and /metrics" in refused.json()["detail"]
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
