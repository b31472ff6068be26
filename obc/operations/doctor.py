"""Checks of this machine; each has a result and a remedy."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from obc.config.downloads import of_run
from obc.config.plan import Plan
from obc.config.run import ResolvedRun
from obc.config.scale import HUB
from obc.datasets.errors import DatasetError
from obc.datasets.identity import fingerprint
from obc.datasets.index_folder import IndexFolder
from obc.datasets.published.catalogue import Published, of_data
from obc.datasets.published.download import by_disk
from obc.datasets.published.fetch import problem, space_wanted, state
from obc.datasets.settings import DatasetName, ShapesData
from obc.io.errors import SuiteError
from obc.io.locks import REMEDY, NoFileLocks, lock
from obc.operations.costs import bytes_to_come
from obc.runs.versions import DISTRIBUTION

Verdict = Literal["OK", "WARN", "FAIL"]
PYTHONS = ((3, 11), (3, 12))
# As pinned in pyproject.toml: other releases have other defaults and lead to other results.
PINNED = {"onedl-mmdetection": "3.5.1", "onedl-mmcv": "2.3.6", "onedl-mmengine": "0.10.12"}
LEAST_FREE_BYTES = 2e9
SLURM_SECONDS = 10.0


@dataclass(frozen=True)
class Check:
    """Result of one check: its name, verdict and finding, and the remedy for a bad one."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.verdict:4}  {self.name}: {self.found}{remedy}"


class DoctorFoundFaults(SuiteError):
    """Something that the suite needs is missing or broken; each line says what to do."""


def checks(plan: Plan | None) -> Iterator[Check]:
    """Run every check and yield each result as soon as it is known.

    Args:
        plan: the plan to be run; None: only the machine is checked, not data, weights and the
            space that they need.
    """
    yield check_python(sys.version_info[:2])
    yield check_torch(_installed("torch"))
    yield from (check_package(name, _installed(name), PINNED[name]) for name in PINNED)
    gpus: list[str] = []
    if find_spec("torch") is not None:
        import torch

        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield check_cuda(gpus, torch.version.cuda, plan.gpus_per_run if plan else 0)
        for device in ("cpu", *(f"cuda:{index}" for index in range(len(gpus)))):
            yield check_operators(device)
    yield check_user()
    yield check_locks(Path() if plan is None else plan.results)
    if plan is None:
        yield check_disk(Path(), 0)
    else:
        at_once = trainings_at_once(plan, len(gpus))
        wanted = by_disk(space_to_come(plan, at_once))
        yield from (check_disk(folder, size, at_once) for folder, size in wanted.items())
        yield from (check_data(plan, name) for name in plan.scale.data)
        yield from map(check_published, plan.published.values())
        yield from check_pretrained(plan)
    yield check_slurm()


def require_healthy(done: Iterable[Check]) -> None:
    """Raise DoctorFoundFaults if a check failed."""
    failed = [check.name for check in done if check.verdict == "FAIL"]
    if failed:
        raise DoctorFoundFaults(f"{len(failed)} of these must be mended: {', '.join(failed)}")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# --- software ----------------------------------------------------------------------------------


def check_python(running: tuple[int, int]) -> Check:
    """Check that the suite is tested with this version of Python."""
    found = ".".join(map(str, running))
    if running in PYTHONS:
        return Check("Python", "OK", f"{platform.python_version()}")
    allowed = " or ".join(".".join(map(str, known)) for known in PYTHONS)
    return Check("Python", "FAIL", found, f"install Python {allowed} and call `make env PYTHON=..`")


def check_torch(found: str | None) -> Check:
    """Check that torch is installed, in a release that the package's extra `suite` allows."""
    needed = _torch_of_the_suite()
    remedy = f"`make env` installs torch; torch{needed} is needed"
    if found is None:
        return Check("torch", "FAIL", "not installed", remedy)
    if not needed.contains(Version(found).public, prereleases=True):
        return Check("torch", "FAIL", found, remedy)
    return Check("torch", "OK", found)


def _torch_of_the_suite() -> SpecifierSet:
    """Return the versions that this package's metadata allows; any if it is not installed."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return SpecifierSet()
    (needed,) = (
        requirement.specifier
        for requirement in map(Requirement, lines)
        if requirement.name == "torch" and 'extra == "suite"' in str(requirement.marker)
    )
    return needed


def check_package(name: str, found: str | None, pinned: str) -> Check:
    """Check that a package that decides numbers has the release that the suite is tested with."""
    if found is None:
        return Check(name, "FAIL", "not installed", "`make env` installs it")
    if found.split("+")[0] != pinned:
        return Check(name, "WARN", found, f"tested with {pinned}; `make env` installs that")
    return Check(name, "OK", found)


def check_cuda(gpus: list[str], built_for: str | None, wanted: int) -> Check:
    """Check that torch sees as many GPUs as a training of the plan needs.

    Args:
        gpus: names of the devices that torch sees.
        built_for: the CUDA version of this torch; None: a CPU build.
        wanted: number of GPUs that one training needs.
    """
    if len(gpus) >= wanted:
        found = f"{len(gpus)} GPUs ({', '.join(gpus)}), CUDA {built_for}" if gpus else "no GPU"
        return Check("CUDA", "OK", found if wanted or gpus else f"{found}, none is needed")
    build = f"torch is built for CUDA {built_for}" if built_for else "torch is a CPU build"
    remedy = (
        "look at `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        if built_for
        else "install torch for CUDA: environment.yml"
    )
    return Check(
        "CUDA", "FAIL", f"{len(gpus)} GPUs, {wanted} a training wanted; {build}",
        f"{remedy}; or run on a machine that has them (profiles/slurm)",
    )  # fmt: skip


def check_operators(device: str, run: Callable[[str], None] | None = None) -> Check:
    """Check that MMCV's compiled NMS and RoIAlign run on a device with correct results.

    Args:
        run: runs the operators and raises if they do not work; None: `run_operators`.
    """
    name = f"MMCV's operators on {device}"
    try:
        (run or run_operators)(device)
    except (ImportError, RuntimeError, AssertionError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        return Check(
            name, "FAIL", first,
            "compile MMCV for this torch: `make env`, on a GPU machine environment.yml",
        )  # fmt: skip
    return Check(name, "OK", "NMS and RoIAlign run and are right")


def run_operators(device: str) -> None:
    """Run NMS and RoIAlign, forward and backward, on inputs whose results are known.

    Raises:
        AssertionError: a result is wrong.
        ImportError, RuntimeError: an operator is missing or was built for another device or torch.
    """
    import torch
    from mmcv.ops import nms, roi_align

    # The second box overlaps the first with IoU 0.9 and has the lower score.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], device=device)
    _, kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)
    if kept.tolist() != [0, 2]:
        raise AssertionError(f"NMS kept boxes {kept.tolist()}, must keep [0, 2]")
    features = torch.full((1, 1, 8, 8), 3.0, device=device, requires_grad=True)
    pooled = roi_align(features, torch.tensor([[0.0, 1, 1, 6, 6]], device=device), (2, 2), 1.0, 2)
    if not torch.allclose(pooled, torch.full_like(pooled, 3.0)):
        raise AssertionError(f"RoIAlign of a constant 3 is {pooled.flatten().tolist()}")
    pooled.sum().backward()
    # Each of the four outputs is a weighted mean of the map.
    if abs(features.grad.sum().item() - 4.0) > 1e-4:
        raise AssertionError(f"RoIAlign's gradients sum to {features.grad.sum().item()}, not to 4")


# --- place and data ----------------------------------------------------------------------------


def trainings_at_once(plan: Plan, gpus: int) -> int:
    """Number of trainings of a plan that may run, and need space for checkpoints, at the same time.

    Args:
        gpus: GPUs of this machine. If trainings need GPUs and there are none, this is taken to be
            the login node of a cluster, which may run all trainings at once.
    """
    if not plan.gpus_per_run:
        return len(os.sched_getaffinity(0))
    everything = sum(
        len(plan.seeds_of(run_id)) for run_id in plan.trainings if not plan.is_beyond(run_id)
    )
    return max(1, gpus // plan.gpus_per_run) if gpus else everything


def space_to_come(plan: Plan, at_once: int) -> dict[Path, int]:
    """Bytes that unfinished trainings and missing downloads still need, by folder.

    Args:
        at_once: number of simultaneous trainings.
    """
    wanted = Counter({plan.results: bytes_to_come(plan, at_once)})
    for published in plan.published.values():
        if published.missing(Path()):
            wanted.update(space_wanted(published))
    return dict(wanted)


def _size(count: float) -> str:
    """Bytes as text; below 1 GB in MB, so that a small scale does not show "0.0 GB"."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{max(1, round(count / 1e6))} MB" if count else "nothing"


def check_disk(folder: Path, needed: float, at_once: int = 1, free: float | None = None) -> Check:
    """Check that the disk of a folder has space for what will be written there.

    Args:
        needed: bytes that will be written.
        at_once: number of simultaneous trainings that `needed` assumes.
        free: free bytes; None: measured.
    """
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free if free is None else free
    found = f"{free / 1e9:.1f} GB free at {place}, {_size(needed)} to come"
    found += f" with {at_once} trainings at once" if at_once > 1 else ""
    if free < needed:
        remedy = (
            "free some, or have `results` (config/README.md) or `data` (a link) on a larger disk"
        )
        return Check("disk", "FAIL", found, remedy)
    if free < needed + LEAST_FREE_BYTES:
        return Check("disk", "WARN", found, "that is tight: logs and temporary files come on top")
    return Check("disk", "OK", found)


def check_locks(folder: Path) -> Check:
    """Check that the file system of a folder, which need not exist yet, has file locks."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            lock(file, place)
    except NoFileLocks:
        return Check("file locks", "WARN", f"none at {place}; trainings stop there", REMEDY)
    except OSError as error:
        remedy = "make it writable, or choose another with `results` (config/README.md)"
        return Check("file locks", "WARN", f"no file at {place}: {error.strerror}", remedy)
    return Check("file locks", "OK", f"there at {place}")


def check_user() -> Check:
    """Check that this user id has a name and a home folder; ids in containers may lack both."""
    try:
        return Check("user", "OK", f"{getpass.getuser()}, home {Path.home()}")
    except (KeyError, OSError, RuntimeError):
        return Check(
            "user", "WARN", f"user id {os.getuid()} has no entry in /etc/passwd",
            "set HOME and USER, e.g. `export HOME=$PWD USER=me`; Snakemake stops without HOME",
        )  # fmt: skip


def name_user_without_passwd_entry() -> None:
    """Set USER for a user id without an entry in /etc/passwd: Snakemake needs a user name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())


def check_data(plan: Plan, name: DatasetName) -> Check:
    """Check that a data set of the plan is there, and that its index is unchanged."""
    data, folder = plan.scale.data[name], plan.data_folder(name)
    title, index = f"data {name}", plan.index_folder(name)
    manifest = index.find_manifest()
    if manifest is not None:
        spoilt = [part for part in ("train", "val") if not _index_is_whole(index, manifest, part)]
        if spoilt:
            return Check(
                title, "FAIL", f"{index}: {' and '.join(spoilt)} is not what was written",
                "delete that folder; snakemake makes it again",
            )  # fmt: skip
    if isinstance(data, ShapesData):
        drawn = "drawn" if Path(f"{folder}.json").exists() else "will be drawn"
        return Check(title, "OK", f"embedded scenes, {drawn}{_indexed_text(manifest)}")
    try:
        fingerprint(data, data.root)
    except (DatasetError, OSError) as error:
        if any(published.missing(Path()) for published in of_data(data, plan.published)):
            return Check(title, "WARN", "not there as a whole", "snakemake fetches the rest")
        return Check(
            title,
            "FAIL",
            str(error).splitlines()[0],
            f"get the data, or say where it is: {name}_root",
        )
    if manifest is None:
        return Check(
            title, "WARN", f"{folder}, annotations are there",
            "snakemake opens and checks each image before it trains",
        )  # fmt: skip
    return Check(title, "OK", f"{folder}{_indexed_text(manifest)}")


def _index_is_whole(index: IndexFolder, manifest: dict[str, Any], part: str) -> bool:
    path = index.split(part)
    if not path.exists():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == manifest["splits"][part]["sha256"]


def _indexed_text(manifest: dict[str, Any] | None) -> str:
    return ", checked and indexed, checksums right" if manifest is not None else ""


def check_published(published: Published, root: Path = Path()) -> Check:
    """Check that a published data set is in place, or weights with the right checksum."""
    title, command = f"published {published.name}", f"`obc fetch {published.name}`"
    found = state(published, root)
    if found == "present":
        wrong = problem(published, root)
        if wrong is not None:
            remedy = f"{command} sets it aside and gets it anew"
            return Check(title, "FAIL", f"{published.target} {wrong}", remedy)
        return Check(title, "OK", "there" if published.folder else "there, checksum right")
    said = "only a part of it is there" if found == "partial" else "not there"
    remedy = f"snakemake fetches it; {command} gets it, or goes on where it stopped"
    return Check(title, "WARN", said, remedy)


def check_pretrained(plan: Plan) -> Iterator[Check]:
    """Check that networks, and pretrained weights that `obc fetch` does not get, are available."""
    runs = [run.resolved for run in plan.trainings.values()]
    of_timm = {run.network.timm: run for run in runs if run.network.timm}
    if of_timm and find_spec("timm") is None:
        remedy = "docs/photos.md says how to install it"
        yield Check("networks timm://", "FAIL", "timm, which has them, is missing", remedy)
    else:
        yield from map(check_timm_network, of_timm.values())
    others = [run for run in runs if of_run(run, plan.published) is None]
    sources = {run.network.checkpoint(run.spec.detector) for run in others} - {None}
    for source in sorted(sources):
        if source.startswith("torchvision://") and find_spec("torchvision") is None:
            yield Check(
                f"weights {source}", "FAIL", "torchvision, which knows where they lie, is missing",
                "`pip install torchvision` in the version that goes with this torch",
            )  # fmt: skip
        elif "://" not in source and source != HUB and not Path(source).exists():
            (network, *_) = (run.network for run in others if run.network.pretrained == source)
            yield Check(f"weights {source}", "FAIL", "no such file", network.remedy)
        else:
            yield Check(f"weights {source}", "OK", "read or fetched when a training starts")


def check_timm_network(run: ResolvedRun) -> Check:
    """Check that timm has the run's network, and that its feature maps are those of a detector."""
    name, height, width = f"network {run.network.backbone}", 64, 96
    remedy = "name a convolutional network of timm; docs/photos.md says how to install timm"
    try:
        import torch
        from mmdet.registry import MODELS

        from obc.detector.model_config import model_config

        backbone = model_config(run, num_classes=1).backbone
        with torch.inference_mode():
            maps = MODELS.build(backbone).eval()(torch.zeros(1, 3, height, width))
    except Exception as error:  # timm's networks raise errors of any kind
        first = (str(error) or type(error).__name__).splitlines()[0]
        found = f"cannot be built and applied to a {height} x {width} image: {first}"
        return Check(name, "FAIL", found, remedy)
    needed = [(height // stride, width // stride) for stride in backbone.strides]
    sizes = [tuple(one.shape[2:]) for one in maps]
    if sizes != needed:
        found = f"its maps of a {height} x {width} image are {sizes}, needed are {needed}"
        return Check(name, "FAIL", found, remedy)
    return Check(name, "OK", "has the feature maps that the detector needs")


def check_slurm(command: str = "sinfo") -> Check:
    """Check that SLURM answers, if it is installed.

    Args:
        command: SLURM's program that lists partitions.
    """
    if shutil.which(command) is None:
        return Check("SLURM", "OK", f"no `{command}` here; needed for profiles/slurm only")
    remedy = "ask its administrator, or run without profiles/slurm"
    try:
        done = subprocess.run(
            [command, "--noheader", "--format=%P %a %D"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SLURM_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check("SLURM", "WARN", f"`{command}` gives no answer in {SLURM_SECONDS:g} s", remedy)
    if done.returncode:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]
        return Check("SLURM", "WARN", f"`{command}`: {said}", remedy)
    up = [line.split()[0] for line in done.stdout.splitlines() if " up " in f"{line} "]
    if not up:
        return Check("SLURM", "WARN", "no partition is up", remedy)
    return Check("SLURM", "OK", f"partitions up: {', '.join(up)}")
