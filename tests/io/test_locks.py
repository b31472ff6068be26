"""File locks: one process holds a lock, and a file system without locks is named."""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import re
from pathlib import Path
from sys import stderr
from typing import Any

import pytest

from obc.config.run_folder import RunFolder
from obc.datasets.published.fetch import _alone
from obc.io.locks import NoFileLocks, lock
from obc.operations.doctor import check_locks, check_user
from obc.runs.lock import training_lock


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("wb") as one, path.open("wb") as other:
        assert lock(one, path)
        assert not lock(other, path)
        one.close()
        assert lock(other, path, wait=True)


@pytest.mark.parametrize("step", ["training", "fetch"])
@pytest.mark.usefixtures("without_locks")
def test_a_step_on_a_file_system_without_locks_says_what_to_do(tmp_path: Path, step: str) -> None:
    held: Any = training_lock(RunFolder(tmp_path)) if step == "training" else _alone(
        tmp_path / "lock", "voc", stderr
    )  # fmt: skip
    with (
        pytest.raises(
            NoFileLocks,
            match=rf"{re.escape(str(tmp_path))}.*: its file system has no file locks .*NFS",
        ),
        held,
    ):
        pass


@pytest.mark.usefixtures("without_locks")
def test_the_doctor_warns_of_a_file_system_without_locks(tmp_path: Path) -> None:
    found = check_locks(tmp_path / "not/there/yet")
    assert (found.verdict, found.found) == ("WARN", f"none at {tmp_path}; trainings stop there")
    assert "put the folder on another file system" in found.remedy


def test_the_doctor_finds_locks_and_leaves_no_file(tmp_path: Path) -> None:
    assert check_locks(tmp_path / "results").verdict == "OK"
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_about_locks_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="broken disk"), (tmp_path / "lock").open("wb") as file:
        lock(file, tmp_path / "lock")


# --- a user id without an entry in /etc/passwd -------------------------------------------------


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_the_doctor_warns_of_a_user_id_without_a_name(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def getuser() -> str:
        raise error("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", getuser)
    found = check_user()
    assert found.verdict == "WARN"
    assert f"user id {os.getuid()} has no entry" in found.found
    assert "set HOME and USER" in found.remedy


def test_the_doctor_knows_a_user_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(check_user()) == "OK    user: ada, home /home/ada"
