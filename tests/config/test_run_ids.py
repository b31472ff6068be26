"""What a run id depends on, and in which results folder its runs lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import edit

from obc.config.box_losses.l2 import L2
from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.box_losses.smooth_l1 import SmoothL1
from obc.config.load_plan import load_plan
from obc.config.run import RUN_ID_VERSION, Cascade
from obc.datasets.settings import VocData, data_identity


def test_run_ids_do_not_depend_on_seeds_or_on_where_results_lie() -> None:
    base = load_plan({"scale": "smoke"})
    moved = load_plan({"scale": "smoke", "seeds": [3, 4], "results": "elsewhere"})
    assert set(base.runs) == set(moved.runs)


def test_run_ids_change_with_protocol_and_scale() -> None:
    base, other = (
        load_plan({"scale": "smoke"}),
        load_plan({"scale": "smoke", "protocol": "paper_v1"}),
    )
    assert not set(base.runs) & set(other.runs)
    assert not set(base.runs) & set(load_plan({"scale": "mini"}).runs)


def test_the_other_protocol_has_a_results_folder_of_its_own() -> None:
    paper = {"scale": "paper"}
    assert load_plan({**paper, "protocol": "modern"}).results == Path("results/paper-modern")
    labelled = load_plan({**paper, "protocol": "modern", "label": "x"})
    assert labelled.results == Path("results/paper-modern-x")


@pytest.mark.parametrize(("scale", "own"), [("paper", "paper_v1"), ("smoke", "modern")])
def test_a_scale_s_own_protocol_may_be_said_without_moving_its_results(
    scale: str, own: str
) -> None:
    said, left = load_plan({"scale": scale, "protocol": own}), load_plan({"scale": scale})
    assert said.results == left.results == Path("results") / scale
    assert set(said.runs) == set(left.runs)


def test_another_backbone_s_network_does_not_change_a_run_id(config_folder: Path) -> None:
    before = load_plan({"scale": "smoke"}, config_folder)
    edit(
        config_folder / "scales/smoke.yaml",
        lambda c: c["networks"]["r101"].update(base_channels=12),
    )
    after = load_plan({"scale": "smoke"}, config_folder)
    changed = set(before.runs) ^ set(after.runs)
    assert changed and all("-r101-" in run_id for run_id in changed)


def test_moving_the_published_data_changes_nothing(tmp_path: Path) -> None:
    base = load_plan({"scale": "paper"})
    moved = load_plan({"scale": "paper", "voc_root": str(tmp_path)})
    assert set(base.runs) == set(moved.runs)
    assert moved.results == base.results
    assert moved.scale.data["voc"].root == tmp_path


def test_an_identity_names_settings_but_no_folder(tmp_path: Path) -> None:
    here = VocData(kind="voc", root=tmp_path)
    there = VocData(kind="voc", root=tmp_path / "x")
    assert data_identity(here, "f") == data_identity(there, "f") != data_identity(here, "g")


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_reading_difficult_objects_otherwise_changes_voc_s_run_ids_and_nothing_else(
    scale: str,
) -> None:
    count, ignore = (load_plan({"scale": scale, "difficult": how}) for how in ("gt", "ignore"))
    assert ignore.results == count.results and ignore.notes == ()
    assert ignore.data_folder("voc") == count.data_folder("voc")
    assert {run for run in count.runs if run.startswith("coco")} == set(count.runs) & set(
        ignore.runs
    )


def test_run_ids_are_these() -> None:
    # Golden: a change of these renames the folders of trainings that took days. A new switch must
    # not do it (defaults are not hashed); a changed default must (raise RUN_ID_VERSION).
    runs = load_plan({"scale": "paper"}).runs
    assert {
        "voc-faster-r50-smoothl1-b1-9aadacb5",
        "voc-faster-r50-obc-a3-n20-k2-b81c22dc",
        "coco-cascade-x101-obc-a3-n20-k1-26960b0a",
    } <= set(runs)


def test_defaults_are_these_as_long_as_run_ids_have_version_2() -> None:
    # What is not hashed must not drift. The values are those of docs/reproduction-notes.md.
    assert RUN_ID_VERSION == 2
    assert OffsetBin(loss="offset_bin").model_dump(exclude={"loss"}) == {
        "max_offset": 3.0, "num_bins": 20, "num_stages": 1, "stage_ranges": None,
        "bins_include_overflow": False, "out_of_range": "overflow",
        "later_out_of_range": "overflow", "stage_features": "refined", "stage_fcs": 2,
        "residual": "pred", "composition": "refine", "stage_loss_weights": None,
        "class_scores": "first", "bin_norm": "sampled", "coord_reduction": "sum",
        "reg_class_agnostic": True, "loss_weight": 1.0, "spacing": "uniform",
    }  # fmt: skip
    assert L2(loss="l2").factor == 0.5
    assert SmoothL1(loss="smooth_l1").beta == SmoothL1(loss="smooth_l1").loss_weight == 1.0
    assert Cascade().model_dump() == {
        "ious": (0.5, 0.7), "stage_weights": (1.0, 0.5),
        "stage_stds": ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1)),
    }  # fmt: skip
