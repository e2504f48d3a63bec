"""`.env` in the root and `${NAME}` in the settings file: what they set, what wins, and what they may not do."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskpilot.config import load, survey
from taskpilot.config.dotenv import filled, read_dotenv
from taskpilot.config.listing import listed
from taskpilot.domain.errors import ConfigurationError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "taskpilot.toml").write_text("")
    return tmp_path


def write(root: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = root / ".env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def test_it_sets_what_the_environment_does_not_and_says_so(root: Path) -> None:
    write(root, "# keys\nexport OPENAI_API_KEY='sk-from-the-file'\nTASKPILOT_MODEL=\"gpt-4o\"\nPORT=1\n")
    found = load(root=root, environ={"PORT": "9000", "TASKPILOT_MODEL": " "})
    assert found.openai_api_key is not None
    assert found.openai_api_key.get_secret_value() == "sk-from-the-file"
    assert (found.model, found.port) == ("gpt-4o", 9000)
    assert (found.sources["openai_api_key"], found.sources["port"]) == (".env OPENAI_API_KEY", "env PORT")
    assert found.variables == {"port": "PORT"}, "cron and systemd lack what the shell sets, not what the file sets"
    assert "sk-from-the-file" not in repr(found)
    assert "sk-from-the-file" not in str(listed(found))


def test_it_may_not_decide_which_programs_libraries_and_store_are_used(root: Path) -> None:
    write(root, "PATH=/tmp\nLD_PRELOAD=x.so\nPYTHONPATH=/tmp\nTASKPILOT_HOME=/tmp/other\nGIT_AUTHOR=me\n")
    found = load(root=root, environ={})
    assert found.state_dir == root / ".taskpilot"
    assert found.dotenv == {"GIT_AUTHOR": "me"}
    assert found.dotenv_refused == ("LD_PRELOAD", "PATH", "PYTHONPATH", "TASKPILOT_HOME")


@pytest.mark.parametrize("mode", [0o604, 0o606, 0o601])
def test_one_that_every_user_can_read_is_refused(root: Path, mode: int) -> None:
    path = write(root, "A=b", mode)
    with pytest.raises(ConfigurationError, match="can be read by every user") as caught:
        load(root=root, environ={})
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o640)
    assert load(root=root, environ={}).dotenv == {"A": "b"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=b\nOPENAI_API_KEY: sk-1\nC=d\n", ".env:2: this line is not NAME=value"),
        (b"A=\xff\xfe", "is not UTF-8 text"),
        ("A=b\0c", "NUL"),
        ("A=" + "x" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_shows_no_value(root: Path, text: str | bytes, said: str) -> None:
    write(root, text)
    with pytest.raises(ConfigurationError) as caught:
        load(root=root, environ={})
    assert said in caught.value.one_line
    assert "sk-1" not in caught.value.one_line
    assert list(survey(root=root, environ={}).problems) == [".env"]


def test_what_is_no_file_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / ".env", 0o600)
    with pytest.raises(ConfigurationError, match="is not a file"):
        read_dotenv(root)
    assert stat.S_ISFIFO((root / ".env").stat().st_mode)


def test_a_variable_is_filled_into_any_text_of_the_settings_file(root: Path) -> None:
    write(root, "TEAM=ops\nTOKEN='a/b c'\nHOOK=https://chat.example.org/hooks/x\n")
    (root / "taskpilot.toml").write_text(
        'deployment = "${TEAM}-1"\nmodel = "$${TEAM}"\n[openai]\nbase_url = "http://me:${TOKEN}@localhost:1/v1"\n'
        '[notify.channels.ops]\nurl = "${HOOK}"\nheaders = { Authorization = "Bearer ${TOKEN}" }\n'
    )
    found = load(root=root, environ={"TEAM": "web"})
    assert (found.deployment, found.model) == ("web-1", "${TEAM}")
    assert found.openai_base_url == "http://me:a%2Fb%20c@localhost:1/v1"
    assert found.notify_channels["ops"].url == "https://chat.example.org/hooks/x"
    assert found.notify_channels["ops"].headers == {"Authorization": "Bearer a/b c"}
    assert found.references == {"deployment": {"TEAM"}, "openai.base_url": {"TOKEN"}, "notify.channels": {"HOOK", "TOKEN"}}


def test_a_variable_that_is_missing_is_named(root: Path) -> None:
    (root / "taskpilot.toml").write_text('model = "${NO_SUCH}"\n')
    with pytest.raises(ConfigurationError) as caught:
        load(root=root, environ={"NO_SUCH": ""})
    assert caught.value.one_line.startswith("taskpilot.toml: model: ${NO_SUCH} is not set: set NO_SUCH in the environment or in .env")
    assert load(root=root, environ={"NO_SUCH": "", "TASKPILOT_MODEL": "x"}).model == "x"


@settings(max_examples=50)
@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_what_a_variable_holds_is_never_read_as_a_variable(around: str, content: str) -> None:
    text = around.replace("$", "") + "${A}"
    found = filled(text, {"A": content, "B": "secret"}, is_url=lambda _key: False, key="k", names=set())
    assert found == around.replace("$", "") + content
