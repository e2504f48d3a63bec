"""The login link of a real `taskpilot serve`: printed, found by `taskpilot open`, good for a session, and gone with the server."""

import re
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.acceptance.serving.server import serving
from tests.command import TaskPilot

pytestmark = pytest.mark.slow


def got(address: str, path: str, cookie: str = "") -> tuple[int, str]:
    """Status, and the cookie that was set."""
    server = HTTPConnection(address, timeout=60)
    try:
        server.request("GET", path, headers={"Accept": "text/html", "Cookie": cookie})
        answer = server.getresponse()
        return answer.status, (answer.getheader("Set-Cookie") or "").partition(";")[0]
    finally:
        server.close()


def test_the_link_logs_in_until_the_server_ends_and_no_log_has_it(taskpilot: TaskPilot) -> None:
    taskpilot.settings("")
    assert taskpilot("open").code == 2
    with serving(taskpilot) as server:
        found = re.search(r"http://(\S+?)(/login\?code=(\S+))", server.said())
        assert found is not None
        address, path, code = found.groups()
        opened = taskpilot("open")
        assert (opened.code, opened.out) == (0, f"{found[0]}\n")
        status, cookie = got(address, path)
        assert status == 303
        # Without a session it would lead to the login.
        assert got(address, "/approvals", cookie)[0] == 200
        assert got(address, "/approvals")[0] == 303
        token = (taskpilot.state_dir / "api_token").read_text().strip()
        server.stop()
    logs = b"".join(file.read_bytes() for file in Path(taskpilot.state_dir, "logs").iterdir())
    assert logs
    assert code.encode() not in logs
    assert token.encode() not in logs
    assert not (taskpilot.state_dir / "login_link").exists()
    assert taskpilot("open").code == 2
