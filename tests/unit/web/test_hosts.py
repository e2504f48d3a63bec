"""Which Host headers name us."""

import pytest

from taskpilot.web.auth import Hosts


@pytest.mark.parametrize(
    ("name", "address", "local", "header", "known"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", "localhost:8000", True),
        ("box", "10.0.0.7", "10.0.0.7", "box:8000", True),
        ("box", "10.0.0.7", "10.0.0.7", "BOX", True),
        ("box", "10.0.0.7", "10.0.0.7", "other", False),
        ("0.0.0.0", "0.0.0.0", "10.0.0.7", "10.0.0.7:8000", True),
        ("0.0.0.0", "0.0.0.0", "10.0.0.7", "10.0.0.8:8000", False),
        ("::", "::", "::ffff:10.0.0.7", "10.0.0.7:8000", True),
        ("::", "::", "2001:db8::7", "[2001:db8::7]:8000", True),
        ("127.0.0.1", "127.0.0.1", None, "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", None, "user@localhost", False),
        ("127.0.0.1", "127.0.0.1", None, "localhost:8000:9", False),
        ("127.0.0.1", "127.0.0.1", None, "localhost\n", False),
    ],
)
def test_a_host_header_names_us_or_not(name: str, address: str, local: str | None, header: str, known: bool) -> None:
    assert Hosts(name, address).knows(header, path="/health", local_address=local) is known


@pytest.mark.parametrize(
    ("address", "private"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.7", False)],
)
def test_only_a_loopback_address_is_private(address: str, private: bool) -> None:
    assert Hosts("whatever", address).is_private is private
