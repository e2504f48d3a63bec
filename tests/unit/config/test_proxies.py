"""Which proxy the model's server is reached through."""

from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.config.proxies import proxy_of

PROXY = "http://proxy.corp:3128"


@pytest.mark.parametrize(
    ("address", "variables", "name"),
    [
        ("https://api.openai.com/v1", {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ("https://api.openai.com/v1", {"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, "https_proxy"),
        ("https://api.openai.com/v1", {"HTTP_PROXY": PROXY}, None),
        ("https://api.openai.com/v1", {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ("https://api.openai.com/v1", {"HTTPS_PROXY": " "}, None),
        ("http://model.corp/v1", {"HTTP_PROXY": PROXY, "HTTPS_PROXY": "http://other"}, "HTTP_PROXY"),
        ("http://localhost:11434/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://127.0.0.1:8080/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://[::1]:8080/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://10.1.2.3/v1", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("http://10.1.2.3/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"}, None),
        ("http://10.1.2.3/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.1.2.3:8080"}, "HTTP_PROXY"),
        ("http://10.1.2.3:8080/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.1.2.3:8080"}, None),
        ("http://model.corp/v1", {"HTTP_PROXY": PROXY, "no_proxy": "a.b, .corp"}, None),
        ("http://model.corp/v1", {"HTTP_PROXY": PROXY, "no_proxy": "*.corp"}, None),
        ("http://model.corp/v1", {"HTTP_PROXY": PROXY, "no_proxy": "corp"}, None),
        ("http://modelcorp/v1", {"HTTP_PROXY": PROXY, "no_proxy": "corp"}, "HTTP_PROXY"),
        ("http://model.corp/v1", {"HTTP_PROXY": PROXY, "no_proxy": "*"}, None),
    ],
)
def test_the_variables_mean_what_they_mean_to_other_programs(address: str, variables: dict[str, str], name: str | None) -> None:
    assert proxy_of(address, variables) == (None if name is None else (PROXY, name))


@pytest.mark.parametrize(
    ("text", "proxy", "source"),
    [
        ("", "http://proxy:3128", "env HTTPS_PROXY"),
        ('proxy = "off"', None, "taskpilot.toml"),
        ("proxy = false", None, "taskpilot.toml"),
        ('proxy = "http://mine:1"', "http://mine:1", "taskpilot.toml"),
    ],
)
def test_the_settings_win_over_the_environment(tmp_path: Path, text: str, proxy: str | None, source: str) -> None:
    (tmp_path / "taskpilot.toml").write_text(f'[openai]\n{text}\nrequest_timeout = "2m"')
    settings = load(root=tmp_path, environ={"HTTPS_PROXY": "proxy:3128"})
    assert (settings.openai_proxy, settings.sources["openai_proxy"], settings.openai_request_timeout) == (proxy, source, 120)
