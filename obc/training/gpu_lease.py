"""Lease of the GPUs that a job may see, so that no two jobs share one.

Snakemake counts GPUs but does not assign them, and concurrent Snakemake calls do not know of each
other. So each job leases its GPUs with one lock file per device. The system frees the lock when the
process ends, even if it is killed. CUDA reads CUDA_VISIBLE_DEVICES only when it starts, and
importing MMEngine starts it. So a job leases its GPUs before that import, and this module asks
`nvidia-smi` instead of CUDA.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from obc.io.errors import SuiteError
from obc.io.locks import lock

VISIBLE = "CUDA_VISIBLE_DEVICES"
ON_THE_CPU = "To train on the CPU on purpose: --config gpus_per_run=0"


class DeviceError(SuiteError):
    """The requested GPUs are not there, or cannot be used."""


@dataclass(frozen=True)
class Device:
    """A GPU, or a MIG device, which is a part of a partitioned GPU.

    Attributes:
        uuid: its name in CUDA_VISIBLE_DEVICES, the same in every container and job of a machine.
        gpu: index of the GPU, as nvidia-smi counts.
        is_part: whether it is a MIG device of that GPU.
    """

    uuid: str
    gpu: int
    is_part: bool = False

    def __str__(self) -> str:
        return self.uuid if self.is_part else f"GPU {self.gpu}"


# --- devices -----------------------------------------------------------------------------------


def installed_devices() -> tuple[Device, ...]:
    """GPUs and MIG devices that the driver lists for this job; empty if no driver is installed."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        return ()
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise DeviceError(f"nvidia-smi -L: {said}; reboot or mend the driver. {ON_THE_CPU}")
    return parse_list(done.stdout)


def parse_list(text: str) -> tuple[Device, ...]:
    """Devices in the output of `nvidia-smi -L`: a line per GPU, followed by its MIG devices."""
    devices: list[Device] = []
    for line in text.splitlines():
        gpu = re.match(r"GPU (\d+):.*\(UUID: (\S+)\)", line)
        part = re.match(r"\s+MIG .*\(UUID: (\S+)\)", line)
        if gpu:
            devices.append(Device(uuid=gpu[2], gpu=int(gpu[1])))
        elif part and devices:
            devices.append(Device(uuid=part[1], gpu=devices[-1].gpu, is_part=True))
    return tuple(devices)


def visible_devices(installed: Sequence[Device], visible: str | None) -> tuple[Device, ...]:
    """The devices that this job may use, in the order in which CUDA would number them.

    Args:
        installed: all that the driver lists.
        visible: value of CUDA_VISIBLE_DEVICES: indices, UUIDs or their beginnings, MIG devices;
            empty or -1 for none; None when it is not set, for all.

    Raises:
        DeviceError: `visible` names a missing device, a device twice, or a partitioned GPU.
    """
    partitioned = {device.gpu for device in installed if device.is_part}
    if visible is None:
        return tuple(d for d in installed if d.is_part or d.gpu not in partitioned)
    named: list[Device] = []
    for name in (part.strip() for part in visible.split(",")):
        if not name or name.startswith("-"):
            break  # as CUDA does: an empty or negative name ends the list
        device = _named(name, installed, visible)
        if device.gpu in partitioned and not device.is_part:
            raise DeviceError(
                f"{VISIBLE}={visible}: {name} is partitioned (MIG); name one of its parts, "
                f"`nvidia-smi -L` lists them"
            )
        if device in named:
            raise DeviceError(f"{VISIBLE}={visible}: names {device} twice; name each once")
        named.append(device)
    return tuple(named)


def _named(name: str, installed: Sequence[Device], visible: str) -> Device:
    if name.isdecimal():
        found = [d for d in installed if d.gpu == int(name) and not d.is_part]
    else:
        found = [d for d in installed if d.uuid.startswith(name)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{d.gpu} ({d.uuid})" for d in installed) or "none"
    wrong = "is the beginning of several devices" if found else "is no device of this machine"
    raise DeviceError(f"{VISIBLE}={visible}: {name} {wrong}; nvidia-smi lists: {there}")


# --- leases ------------------------------------------------------------------------------------


def lease_folder() -> Path:
    """Folder of the lock files, one for each user and host.

    It is not in $XDG_RUNTIME_DIR, which is emptied when the user logs out while a training runs.
    """
    return Path(tempfile.gettempdir()) / f"obc-devices-{os.getuid()}-{platform.node()}"


def devices_torch_sees() -> int:
    """Number of GPUs that torch sees in this process; does not start CUDA."""
    import torch

    return torch.cuda.device_count()


@contextmanager
def lease(
    count: int,
    terminal: TextIO,
    *,
    installed: Callable[[], Sequence[Device]] = installed_devices,
    usable: Callable[[], int] = devices_torch_sees,
    folder: Path | None = None,
    poll_seconds: float = 1.0,
) -> Iterator[tuple[str, ...]]:
    """Hold `count` visible GPUs that no other job of this user holds; wait while too few are free.

    Inside the block CUDA_VISIBLE_DEVICES names exactly these GPUs (none if `count` is 0), so
    torch's `cuda:0` is the first of them, and child processes see the same GPUs.

    Args:
        count: number of GPUs; a job that waits holds none of them, so it does not block others.
        terminal: gets a line if the job has to wait, with the processes that hold the GPUs.
        installed: lists this machine's devices.
        usable: counts the devices that torch sees once CUDA_VISIBLE_DEVICES is set.
        folder: of the lock files.
        poll_seconds: time between two attempts.

    Yields:
        UUIDs of the devices.

    Raises:
        DeviceError: fewer than `count` GPUs are visible, or torch cannot use them.
    """
    with ExitStack() as held:
        devices: tuple[Device, ...] = ()
        if count:
            visible = os.environ.get(VISIBLE)
            candidates = visible_devices(installed(), visible)
            _check_enough(count, candidates, visible)
            folder = folder or lease_folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            devices = _wait_for(count, candidates, folder, held, terminal, poll_seconds)
        uuids = tuple(device.uuid for device in devices)
        held.enter_context(_visible_to_cuda(uuids))
        if count and usable() != count:
            raise DeviceError(
                f"leased {', '.join(map(str, devices))}, but torch sees {usable()} of these "
                f"{count}: install a torch with CUDA that fits the driver (`nvidia-smi` names its "
                f"version); several MIG devices cannot train one run. {ON_THE_CPU}"
            )
        yield uuids


def _check_enough(count: int, candidates: Sequence[Device], visible: str | None) -> None:
    if len(candidates) >= count:
        return
    setting = f"{VISIBLE}={visible}" if visible is not None else f"{VISIBLE} is not set"
    asked = f"{count} GPU{'' if count == 1 else 's'} a run asked for (gpus_per_run)"
    if not candidates:
        raise DeviceError(f"{asked}, none visible ({setting}; see `nvidia-smi -L`). {ON_THE_CPU}")
    raise DeviceError(
        f"{asked}, {len(candidates)} visible: {', '.join(map(str, candidates))} ({setting}). Ask "
        f"for at most {len(candidates)} (--config gpus_per_run={len(candidates)}) or let the job "
        f"see more. {ON_THE_CPU}"
    )


def _wait_for(
    count: int,
    candidates: Sequence[Device],
    folder: Path,
    held: ExitStack,
    terminal: TextIO,
    poll_seconds: float,
) -> tuple[Device, ...]:
    """The first free devices, locked until `held` closes."""
    said = False
    while True:
        taken = _try(count, candidates, folder, held)
        if taken:
            return taken
        if not said:
            said = True
            users = "; ".join(f"{d}: {_holder(_lock_file(folder, d))}" for d in candidates)
            print(
                f"waiting for {count} of {len(candidates)} GPUs, too few are free ({users})",
                file=terminal,
                flush=True,
            )
        time.sleep(poll_seconds)


def _try(
    count: int, candidates: Sequence[Device], folder: Path, held: ExitStack
) -> tuple[Device, ...]:
    """`count` free devices, or none at all."""
    with ExitStack() as locks, (folder / "one-at-a-time").open("wb") as attempt:
        # Otherwise two jobs that each take half of the devices could block each other for ever.
        lock(attempt, folder / "one-at-a-time", wait=True)
        taken: list[Device] = []
        for device in candidates:
            handle = _locked(_lock_file(folder, device))
            if handle is not None:
                locks.enter_context(handle)
                taken.append(device)
            if len(taken) == count:
                leases = held.enter_context(locks.pop_all())
                # Otherwise data loader processes would keep the locks if the training is killed.
                os.register_at_fork(after_in_child=leases.close)
                return tuple(taken)
    return ()


def _locked(path: Path) -> TextIO | None:
    """The lock file, held by this process until it is closed; None if another process holds it."""
    handle = path.open("a+", encoding="utf-8")
    if not lock(handle, path):
        handle.close()
        return None
    handle.truncate(0)
    handle.write(f"process {os.getpid()}")
    handle.flush()
    return handle


def _lock_file(folder: Path, device: Device) -> Path:
    return folder / f"{device.uuid.replace('/', '_')}.lock"


def _holder(path: Path) -> str:
    """The last process that wrote its id into a lock file; it may have ended since."""
    return path.read_text(encoding="utf-8") if path.exists() else "free"


@contextmanager
def _visible_to_cuda(uuids: Sequence[str]) -> Iterator[None]:
    """Set CUDA_VISIBLE_DEVICES for as long as the lease lasts."""
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(uuids)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before
