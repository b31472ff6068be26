"""A tiny suite to train with: one scale of a few images, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from _pytest.nodeid import NodeId
from imported import Imported

from obc.config.load_plan import load_plan
from obc.config.plan import Plan

PROJECT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
BIN = Path(sys.executable).parent
# Seconds after which a process counts as stuck. A busy machine is slow, not wrong: nothing that a
# test starts comes near it.
PATIENCE = 1800
# What a run of the suite, its tools and its user leave in a checkout.
LEFT_IN_A_CHECKOUT = {"data", "results", "site"}
ROOM = "obc-tests-"
SUITE = Imported(
    ("obc.cli.main", "obc.training.train", "obc.evaluation.evaluate"), ENVIRONMENT, PATIENCE
)
SNAKEMAKE = Imported(
    ("snakemake.cli", "obc.config.load_plan", "obc.operations.plan_page", "obc.runs.staleness"),
    ENVIRONMENT,
    PATIENCE,
)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """One thread, in an empty folder with links to the checkout's files but not to what it made.

    Tests read `config`, `docs` and others by relative paths; no test may see the results, the data
    or the half-finished runs that lie in the checkout.
    """
    # One thread a worker: more would wait for each other at every small operation.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if hasattr(config, "workerinput") and Path.cwd().name.startswith(ROOM):
        return  # a worker starts in its controller's, which removes it
    room = Path(tempfile.mkdtemp(prefix=ROOM))
    for path in PROJECT.iterdir():
        if not path.name.startswith(".") and path.name not in LEFT_IN_A_CHECKOUT:
            (room / path.name).symlink_to(path)
    (room / "results").mkdir()
    (room / "results/reference").symlink_to(PROJECT / "results/reference")
    before = Path.cwd()
    os.chdir(room)

    def leave() -> None:
        os.chdir(before)
        shutil.rmtree(room, ignore_errors=True)

    config.add_cleanup(leave)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell the scheduler of `--dist loadgroup` each test's group, by a suffix of its id.

    pytest-xdist 3.8 writes that to an attribute which pytest 9.2 does not read: without this, both
    workers would make what a group shares.
    """
    if not getattr(config.option, "loadgroup", False):  # a worker's alone
        return
    for item in items:
        group = item.get_closest_marker("xdist_group")
        if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
            item._id = NodeId.parse(f"{item.nodeid}@{group.args[0]}")


@dataclass(frozen=True)
class Workspace:
    """A folder with config/, Snakefile and workflow/ of its own, and commands run inside it."""

    folder: Path

    def obc(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return SUITE.run("obc.__main__", self.folder, *arguments)

    def snakemake(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return SNAKEMAKE.run("snakemake.cli", self.folder, *arguments)

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def plan(self, **config: object) -> Plan:
        """The plan of a scale, also written where jobs look for it."""
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            plan = load_plan({"scale": "smoke", **config})
            plan.save(plan.results / "plan.json")
        finally:
            os.chdir(before)
        return plan

    def new_scale(self, name: str, **schedule: object) -> None:
        """A copy of the smoke scale with another schedule."""
        scales = self.folder / "config/scales"
        path = Path(shutil.copy(scales / "smoke.yaml", scales / f"{name}.yaml"))
        edit(path, lambda scale: scale["schedule"].update(schedule))


@pytest.fixture
def config_folder(tmp_path: Path) -> Path:
    """A copy of config/ to spoil."""
    return Path(shutil.copytree(PROJECT / "config", tmp_path / "config"))


def copy_project(folder: Path) -> None:
    """Copy into a folder what Snakemake needs of the project; its scale is the one for tests."""
    for name in ("config", "workflow", "profiles"):
        shutil.copytree(PROJECT / name, folder / name)
    shutil.copy(PROJECT / "Snakefile", folder)
    edit(folder / "config/config.yaml", lambda config: config.update(scale="smoke"))


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a YAML file in place."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A suite whose smoke scale is drawn and indexed, and whose r50 has its starting weights."""
    folder = tmp_path_factory.mktemp("suite")
    copy_project(folder)
    workspace = Workspace(folder)
    plan = workspace.plan(scale="smoke")
    file = plan.results / "plan.json"
    initial = next(run_id for run_id in plan.initial_runs if "-r50-" in run_id)
    steps: list[tuple[object, ...]] = []
    for name in ("voc", "init"):
        settings = json.dumps(plan.scale.data[name].drawing)
        steps += [("draw", plan.data_folder(name), "--settings", settings), ("index", file, name)]
    for step in (*steps, ("train", file, initial)):
        done = workspace.obc(*step)
        assert done.returncode == 0, done.stderr
    return workspace
