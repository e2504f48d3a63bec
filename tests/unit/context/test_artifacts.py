"""Files that a run leaves: plain names only, whole or not at all, never through a link."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.context.run_context import write_artifact


@pytest.mark.parametrize(("data", "content"), [("tëxt", "tëxt"), (b"\x00\xff", b"\x00\xff"), ({"ü": [1]}, '{\n  "ü": [\n    1\n  ]\n}')])
def test_text_bytes_and_json_are_written_as_they_are(tmp_path: Path, data: object, content: str | bytes) -> None:
    path = write_artifact(tmp_path, "a.txt", data)
    assert path == tmp_path / "artifacts" / "a.txt"
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_last_one_of_a_name_stands(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write_artifact(tmp_path, "a", text)
    assert [each.name for each in (tmp_path / "artifacts").iterdir()] == ["a"]
    assert (tmp_path / "artifacts" / "a").read_text() == "two"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "/etc/passwd", "a\n", "a b", "ä", "a" * 129, "-rf", "a\0"])
def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not an artifact name"):
        write_artifact(tmp_path, name, "x")
    assert not (tmp_path / "artifacts").exists()


@given(name=st.text(max_size=20))
def test_whatever_the_name_nothing_is_written_elsewhere(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    around = tmp_path_factory.mktemp("around")
    try:
        path = write_artifact(around / "run", name, "x")
    except ValueError:
        return
    assert path.parent == around / "run" / "artifacts"
    assert path.is_file()


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    (tmp_path / "run" / "artifacts").mkdir(parents=True)
    (tmp_path / "run" / "artifacts" / "a").symlink_to(victim)
    write_artifact(tmp_path / "run", "a", "x")
    assert victim.read_text() == "keep me"
    assert not (tmp_path / "run" / "artifacts" / "a").is_symlink()


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "artifacts").symlink_to(elsewhere)
    with pytest.raises(OSError, match="artifacts"):
        write_artifact(tmp_path / "run", "a", "x")
    assert list(elsewhere.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "a").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_artifact(tmp_path, "a", "x")
    assert [each.name for each in (tmp_path / "artifacts").iterdir()] == ["a"]
