"""Writing files and folders in one step (obc.io.files)."""

from __future__ import annotations

import pytest

from obc.io.files import atomic_folder, atomic_path, write_json, write_text


def test_file_appears_with_its_content_and_makes_its_folder(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "content")
    assert (tmp_path / "new" / "a.txt").read_text() == "content"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_failure_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_file_keeps_the_suffix_that_writers_choose_the_format_by(tmp_path):
    with atomic_path(tmp_path / "figure.svg") as temporary:
        temporary.write_text("<svg/>")
        assert temporary.suffix == ".svg"
        assert temporary.parent == tmp_path


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass


@pytest.mark.parametrize("before", ["absent", "empty", "filled"])
def test_folder_appears_whole_and_replaces_what_was_there(tmp_path, before):
    path = tmp_path / "data"
    if before != "absent":
        path.mkdir()
    if before == "filled":
        (path / "old").write_text("old")
    with atomic_folder(path) as folder:
        (folder / "new").write_text("new")
        assert not (path / "new").exists()
    assert [p.name for p in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_failure_while_filling_a_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as folder:
        (folder / "new").write_text("new")
        raise KeyboardInterrupt
    assert [p.name for p in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_json_keeps_key_order_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    assert (tmp_path / "a.json").read_text() == '{\n "b": 1,\n "a": [\n  2\n ]\n}\n'


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not (tmp_path / "a.json").exists()
