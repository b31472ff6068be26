"""The container recipes: their steps are the Makefile's, and what they copy suffices for these."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCKER = Path("containers/Dockerfile").read_text(encoding="utf-8")
APPTAINER = Path("containers/obc.def").read_text(encoding="utf-8")


def copied() -> tuple[set[str], set[str]]:
    """What each recipe copies from the project's folder."""
    docker = re.findall(r"^COPY (.+) \S+$", DOCKER, re.M)
    files = APPTAINER.split("%files")[1].split("%post")[0]
    return {name for line in docker for name in line.split()}, {
        line.split()[0] for line in files.splitlines() if line.strip()
    }


def test_both_copy_the_same_files_which_are_there() -> None:
    docker, apptainer = copied()
    assert docker == apptainer
    assert all(Path(name).exists() for name in docker)


def test_they_copy_what_make_env_reads() -> None:
    project = Path("pyproject.toml").read_text(encoding="utf-8")
    needed = {"Makefile", "pyproject.toml", "requirements.lock", "obc"}
    needed |= {re.search(r'^readme = "(.+)"', project, re.M)[1]}
    needed |= {re.search(r'^license-files = \["(.+)"\]', project, re.M)[1]}
    assert needed == copied()[0]


@pytest.mark.parametrize("recipe", [DOCKER, APPTAINER], ids=["docker", "apptainer"])
def test_the_steps_are_the_makefiles_and_untested_is_said(recipe: str) -> None:
    assert "make env" in recipe and "UNTESTED" in recipe
    assert "pip install" not in recipe and "==" not in recipe
