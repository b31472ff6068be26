"""Which GPUs a job may use, and that no two jobs hold the same one. The driver is a stand-in."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE

from obc.config.load_plan import load_plan
from obc.training.gpu_lease import (
    VISIBLE,
    Device,
    DeviceError,
    installed_devices,
    lease,
    lease_folder,
    parse_list,
    visible_devices,
)

# What `nvidia-smi -L` prints; the third GPU is partitioned (MIG user guide, "Device Enumeration").
LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb      Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
"""
FIRST, SECOND, _, PART, OTHER_PART = (device.uuid for device in parse_list(LISTING))
TWO = (Device("GPU-a", 0), Device("GPU-b", 1))

# Holds leases in a process of its own: starts a child if told, says what it got, then waits to be
# told to end.
HOLDER = """
import os, subprocess, sys
from pathlib import Path
from obc.training.gpu_lease import Device, lease
devices = [Device(f"GPU-{name}", index) for index, name in enumerate(sys.argv[3])]
count = int(sys.argv[2])
with lease(count, sys.stderr, installed=lambda: devices, usable=lambda: count,
           folder=Path(sys.argv[1]), poll_seconds=0.02) as held:
    exec(sys.argv[4])
    print(*held, flush=True)
    sys.stdin.readline()
"""


def holder(
    folder: Path, count: int, devices: str = "ab", child: str = "pass"
) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != VISIBLE}
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(count), devices, child],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def got(process: subprocess.Popen[str]) -> list[str]:
    return process.stdout.readline().split()


def ended(process: subprocess.Popen[str]) -> str:
    """Let a holder end; what it said on the terminal."""
    return process.communicate("\n", timeout=PATIENCE)[1]


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv(VISIBLE, raising=False)
    return monkeypatch


def held(folder: Path, count: int, devices=TWO, usable: int | None = None) -> tuple[str, ...]:
    seen = count if usable is None else usable
    with lease(
        count, io.StringIO(), installed=lambda: devices, usable=lambda: seen, folder=folder
    ) as uuids:
        return uuids


# --- what a job may use ------------------------------------------------------------------------


def test_the_driver_s_list_names_gpus_and_the_parts_of_partitioned_ones() -> None:
    devices = parse_list(LISTING)
    assert [(device.gpu, device.is_part) for device in devices] == [
        (0, False), (1, False), (2, False), (2, True), (2, True),
    ]  # fmt: skip
    assert devices[0].uuid == "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
    assert devices[3].uuid == "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, [FIRST, SECOND, PART, OTHER_PART]),
        ("", []),
        ("-1", []),
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        (" 0 , 1 ", [FIRST, SECOND]),
        ("0,-1,1", [FIRST]),
        (SECOND, [SECOND]),
        ("GPU-5c,GPU-5d", [SECOND, FIRST]),
        (PART, [PART]),
        (f"{OTHER_PART},{FIRST}", [OTHER_PART, FIRST]),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(visible, uuids) -> None:
    assert [device.uuid for device in visible_devices(parse_list(LISTING), visible)] == uuids


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        ("7", r"=7: 7 is no device of this machine; nvidia-smi lists: 0 \(GPU-5d5ba0d6"),
        ("GPU-beef", "GPU-beef is no device of this machine"),
        ("GPU-5", "GPU-5 is the beginning of several devices"),
        ("2", r"2 is partitioned \(MIG\); name one of its parts"),
        ("0,0", "names GPU 0 twice"),
    ],
)
def test_a_name_that_means_no_one_device_is_said(visible: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        visible_devices(parse_list(LISTING), visible)


def test_the_driver_is_asked_and_its_failure_told(tmp_path: Path, monkeypatch) -> None:
    command = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    command.chmod(0o755)
    assert len(installed_devices()) == 5
    command.write_text("#!/bin/sh\necho 'Driver/library version mismatch'; exit 18\n")
    with pytest.raises(DeviceError, match="nvidia-smi -L: Driver/library version mismatch"):
        installed_devices()


def test_a_machine_without_the_driver_has_no_devices(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_devices() == ()


# --- counts that do not match ------------------------------------------------------------------


def test_more_gpus_than_are_visible_is_said_with_what_to_do(tmp_path: Path, unset) -> None:
    unset.setenv(VISIBLE, "1,0")
    with pytest.raises(DeviceError) as error:
        held(tmp_path, 4)
    assert str(error.value) == (
        "4 GPUs a run asked for (gpus_per_run), 2 visible: GPU 1, GPU 0 (CUDA_VISIBLE_DEVICES=1,0)."
        " Ask for at most 2 (--config gpus_per_run=2) or let the job see more."
        " To train on the CPU on purpose: --config gpus_per_run=0"
    )


@pytest.mark.parametrize(
    ("visible", "setting"), [("", "CUDA_VISIBLE_DEVICES="), (None, "CUDA_VISIBLE_DEVICES is not")]
)
def test_no_visible_gpu_says_how_to_use_the_cpu(tmp_path: Path, unset, visible, setting) -> None:
    if visible is not None:
        unset.setenv(VISIBLE, visible)
    with pytest.raises(DeviceError, match=f"1 GPU a run asked .* none visible .{setting}") as error:
        held(tmp_path, 1, devices=() if visible is None else TWO)
    assert "--config gpus_per_run=0" in str(error.value)


def test_gpus_that_torch_cannot_use_stop_the_job(tmp_path: Path, unset) -> None:
    with pytest.raises(DeviceError, match="leased GPU 0, but torch sees 0 of these 1: install"):
        held(tmp_path, 1, usable=0)


# --- leases ------------------------------------------------------------------------------------


def test_a_lease_shows_cuda_its_devices_and_nothing_else(tmp_path: Path, unset) -> None:
    with lease(1, io.StringIO(), installed=lambda: TWO, usable=lambda: 1, folder=tmp_path) as uuids:
        assert uuids == ("GPU-a",) and os.environ[VISIBLE] == "GPU-a"
    assert VISIBLE not in os.environ


def test_a_job_on_the_cpu_sees_no_gpu_and_asks_no_driver(tmp_path: Path, unset) -> None:
    unset.setenv(VISIBLE, "0,1")
    with lease(0, io.StringIO(), installed=pytest.fail, folder=tmp_path) as uuids:
        assert uuids == () and os.environ[VISIBLE] == ""
    assert os.environ[VISIBLE] == "0,1"


def test_a_lease_is_among_the_visible_devices_only(tmp_path: Path, unset) -> None:
    unset.setenv(VISIBLE, "1")
    assert held(tmp_path, 1) == ("GPU-b",)


def test_gpus_of_the_same_index_in_two_jobs_may_be_two_gpus(tmp_path: Path, unset) -> None:
    # Under SLURM each job may count its own from 0; only the UUID tells them apart.
    other = holder(tmp_path, 1, "a")
    assert got(other) == ["GPU-a"]
    assert held(tmp_path, 1, devices=(Device("GPU-c", 0),)) == ("GPU-c",)
    ended(other)


def test_two_processes_never_hold_the_same_device(tmp_path: Path) -> None:
    processes = [holder(tmp_path, 1) for _ in range(2)]
    assert sorted(uuid for process in processes for uuid in got(process)) == ["GPU-a", "GPU-b"]
    for process in processes:
        assert ended(process) == ""


def test_a_job_waits_for_a_device_and_says_who_has_it(tmp_path: Path) -> None:
    first = holder(tmp_path, 2)
    assert got(first) == ["GPU-a", "GPU-b"]
    second = holder(tmp_path, 1)
    said = second.stderr.readline()
    assert said == (
        "waiting for 1 of 2 GPUs, too few are free "
        f"(GPU 0: process {first.pid}; GPU 1: process {first.pid})\n"
    )
    ended(first)
    assert got(second) == ["GPU-a"]
    assert ended(second) == "", "said once"


def test_a_killed_holder_frees_its_devices(tmp_path: Path) -> None:
    first = holder(tmp_path, 2)
    got(first)
    second = holder(tmp_path, 2)
    assert second.stderr.readline().startswith("waiting for 2 of 2 GPUs")
    first.kill()
    first.communicate()
    assert got(second) == ["GPU-a", "GPU-b"]
    ended(second)


@pytest.mark.parametrize(
    "child",
    ["if os.fork() == 0: sys.stdin.read(); os._exit(0)", "subprocess.Popen(['cat'])"],
    ids=["forked", "started"],
)
def test_a_killed_holder_frees_its_devices_while_its_children_still_live(
    tmp_path: Path, child: str
) -> None:
    first = holder(tmp_path, 2, child=child)  # which lives until its standard input ends
    got(first)
    first.kill()
    first.wait()
    second = holder(tmp_path, 2)
    assert second.communicate("\n", timeout=PATIENCE) == ("GPU-a GPU-b\n", ""), (
        "it did not have to wait"
    )
    first.communicate()


def test_jobs_that_need_all_devices_take_turns(tmp_path: Path) -> None:
    processes = [holder(tmp_path, 2) for _ in range(3)]
    for process in processes:
        process.stdin.write("\n")  # each ends as soon as it held both
        process.stdin.flush()
    assert [process.wait(timeout=PATIENCE) for process in processes] == [0, 0, 0]
    for process in processes:
        assert got(process) == ["GPU-a", "GPU-b"]
        process.communicate()


def test_waiting_for_several_devices_blocks_nobody_who_needs_one(tmp_path: Path) -> None:
    first = holder(tmp_path, 1)
    assert got(first) == ["GPU-a"]
    waiting = holder(tmp_path, 2)
    assert waiting.stderr.readline().startswith("waiting for 2")
    third = holder(tmp_path, 1)
    assert got(third) == ["GPU-b"]
    for process in (first, third, waiting):
        ended(process)


def test_counting_and_leasing_import_nothing_that_starts_cuda(tmp_path: Path) -> None:
    # Importing MMEngine calls torch.cuda.is_available, after which CUDA_VISIBLE_DEVICES is fixed.
    check = f"""
import sys
from pathlib import Path
from obc.training.gpu_lease import Device, lease
with lease(1, sys.stderr, installed=lambda: [Device("GPU-a", 0)], usable=lambda: 1,
           folder=Path({str(tmp_path)!r})):
    assert not {{"torch", "mmengine", "mmdet"}} & set(sys.modules)
import obc.cli.main
assert not {{"torch", "mmengine", "mmdet"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- the commands ------------------------------------------------------------------------------

DECODE = ("--decode", "regression")
EXPECTATION = ("--decode", "expectation")


def obc(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "obc", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("step", "asked"),
    [
        (("train",), "2 GPUs"),
        (("evaluate", *DECODE), "1 GPU"),
        (("export", "--format", "test-dev", *EXPECTATION), "1 GPU"),
    ],
    ids=["train", "evaluate", "export"],
)
def test_a_step_that_wants_gpus_where_none_is_says_how_to_use_the_cpu(
    tmp_path: Path, unset, step: tuple[str, ...], asked: str
) -> None:
    plan = load_plan({"scale": "smoke", "gpus_per_run": 2})
    plan.save(tmp_path / "plan.json")
    unset.setenv("PATH", str(tmp_path))  # where no nvidia-smi is
    command, *options = step
    process = obc(tmp_path, command, "plan.json", next(iter(plan.runs)), *options)
    _, said = process.communicate()
    assert process.returncode == 1
    assert f"DeviceError: {asked} a run asked for (gpus_per_run), none visible" in said
    assert "on purpose: --config gpus_per_run=0" in said


@pytest.mark.parametrize(
    "step",
    [("evaluate", *DECODE), ("export", "--format", "test-dev", *EXPECTATION)],
    ids=["evaluate", "export"],
)
def test_what_runs_a_trained_model_waits_for_a_gpu_that_a_training_holds(
    tmp_path: Path, unset, step: tuple[str, ...]
) -> None:
    plan = load_plan({"scale": "smoke", "gpus_per_run": 1})
    plan.save(tmp_path / "plan.json")
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-a)'\n")
    command.chmod(0o755)
    unset.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    unset.setenv("TMPDIR", str(tmp_path))
    unset.setattr("tempfile.tempdir", None)  # so that it is looked up again
    training = holder(lease_folder(), 1, "a")
    assert got(training) == ["GPU-a"]
    command, *options = step
    waiting = obc(tmp_path, command, "plan.json", next(iter(plan.runs)), *options)
    assert waiting.stderr.readline() == (
        f"waiting for 1 of 1 GPUs, too few are free (GPU 0: process {training.pid})\n"
    )
    waiting.kill()
    waiting.communicate()
    ended(training)
