"""Which model one gets, and what one is told where there is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskpilot.config import Secret, Settings, load
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.exits import ExitCode
from taskpilot.llm.factory import check_model, open_model
from taskpilot.llm.offline import OfflineModel
from taskpilot.llm.openai_chat import OpenAIModel
from tests.errors import saying


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("root")
    (root / "taskpilot.toml").touch()
    return load(root=Path(root), environ={})


def given(bare: Settings, key: str | None = None, base_url: str | None = None, **others: Any) -> Settings:
    return replace(bare, openai_api_key=None if key is None else Secret(key), openai_base_url=base_url, **others)


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_key_and_server_one_is_shown_all_three_ways(bare: Settings, nothing: str | None) -> None:
    for ask in (check_model, open_model):
        with pytest.raises(ConfigurationError) as caught:
            ask("gpt-4o", given(bare, nothing, nothing))
        assert caught.value.exit_code is ExitCode.CONFIGURATION
        for way in ("OPENAI_API_KEY=", "OPENAI_BASE_URL=", "--model offline"):
            assert way in caught.value.one_line


def test_offline_is_embedded_only_when_named(bare: Settings) -> None:
    assert isinstance(open_model("offline", given(bare, "sk-x", "http://localhost/v1")), OfflineModel)
    assert isinstance(open_model("gpt-4o", given(bare, "sk-x")), OpenAIModel)
    model = open_model("smollm2", given(bare, base_url="http://localhost:8080/v1"))
    assert (type(model), model.name) == (OpenAIModel, "smollm2")


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x/v1", "http://", "http://[::1", "http://x:99999/v1", "http://x /v1", "http://ü/v1"]
)
def test_an_address_that_is_none_is_refused(bare: Settings, url: str) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_BASE_URL"):
        check_model("m", given(bare, base_url=url))


@pytest.mark.parametrize("key", ["sk-x\n", " sk-x", "sk-ü", "sk x"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(bare: Settings, key: str) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY") as caught:
        check_model("m", given(bare, key))
    assert key.strip() not in caught.value.one_line


def test_a_model_without_a_name_is_refused(bare: Settings) -> None:
    with pytest.raises(ConfigurationError, check=saying("--model")):
        check_model(" ", given(bare, "sk-x"))


@pytest.mark.parametrize("proxy", ["socks5://proxy:1080", "http://", "proxy", "http://x:99999"])
def test_a_proxy_that_cannot_be_used_is_refused_by_name_where_a_server_is_asked(bare: Settings, proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy") as caught:
        check_model("m", given(bare, "sk-x", openai_proxy=proxy.replace("//", "//ada:s3cret@")))
    assert "[openai] proxy" in caught.value.one_line
    assert "s3cret" not in caught.value.one_line
    check_model("offline", given(bare, openai_proxy=proxy))
