"""Starting weights that come with the suite: cards, bytes that are checked, and what is placed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.shipped_weights import ShippedWeights, read_cards
from obc.io.typed_yaml import ConfigError
from obc.training.shipped_weights import (
    ShippedWeightsRefused,
    place_weights,
    read_weights,
    write_weights,
)

FOLDER = Path("config/starting_weights")
MOST_BYTES = 8_000_000


def trained(folder: Path) -> Path:
    """The weights of a detector with one layer of each part."""
    path = folder / "final.pth"
    torch.manual_seed(0)
    torch.save(
        {
            "backbone.conv1.weight": torch.randn(4, 3),
            "backbone.bn1.num_batches_tracked": torch.tensor(9),
            "neck.conv.weight": torch.randn(2, 2),
            "rpn_head.rpn_reg.weight": torch.randn(3, 2),
            "roi_head.bbox_head.fc_cls.weight": torch.randn(3, 2),
        },
        path,
    )
    return path


def shipped(path: Path, sha256: str | None = None) -> ShippedWeights:
    return ShippedWeights(
        file=path.name,
        path=path,
        sha256=sha256 or hashlib.sha256(path.read_bytes()).hexdigest(),
        backbone="r50",
        data="drawn",
        command="snakemake",
        commit="0" * 7,
        trained_sha256="0" * 64,
        minutes=4.0,
        licence="Apache-2.0",
    )


def test_a_file_has_backbone_neck_and_rpn_rounded_to_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "r50.safetensors"
    source = torch.load(trained(tmp_path), weights_only=True)
    write_weights(tmp_path / "final.pth", path)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16, torch.int64}
    weights = read_weights(shipped(path))
    assert set(weights) == {name for name in source if not name.startswith("roi_head")}
    for name, tensor in weights.items():
        assert tensor.dtype == source[name].dtype
        torch.testing.assert_close(tensor, source[name], rtol=2**-11, atol=0)


def test_other_bytes_than_the_card_s_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r50.safetensors"
    write_weights(trained(tmp_path), path)
    card = shipped(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShippedWeightsRefused, match=r"its sha256 is .* --config starting_weights="):
        read_weights(card)


def test_bytes_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r50.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ShippedWeightsRefused, match="not a safetensors file"):
        read_weights(shipped(path))


def test_a_weight_beyond_half_precision_is_not_rounded_to_infinity(tmp_path: Path) -> None:
    torch.save({"backbone.bn1.running_var": torch.tensor([70_000.0])}, tmp_path / "final.pth")
    with pytest.raises(ValueError, match=r"backbone\.bn1\.running_var has values beyond"):
        write_weights(tmp_path / "final.pth", tmp_path / "r50.safetensors")


def test_a_card_without_its_file_stops_the_plan(tmp_path: Path) -> None:
    card = shipped(trained(tmp_path)).model_dump(mode="json", exclude={"path"})
    cards = {"init-a": {**card, "file": "gone.safetensors"}}
    (tmp_path / "cards.yaml").write_text(json.dumps({"cards": cards}))
    with pytest.raises(ConfigError, match=r"init-a: .*gone\.safetensors is not there; get it back"):
        read_cards(tmp_path)


@pytest.mark.parametrize("scale", ["quick", "mini"])
def test_a_scale_s_starting_weights_are_those_that_come_with_the_suite(scale: str) -> None:
    plan = load_plan({"scale": scale})
    assert set(plan.shipped) == set(plan.initial_runs)
    for run_id, one in plan.shipped.items():
        assert one.backbone == plan.initial_runs[run_id].resolved.spec.backbone
    assert not load_plan({"scale": scale, "starting_weights": "train"}).shipped


def test_other_settings_have_no_shipped_weights() -> None:
    changed = {"scale": "mini", "label": "other", "change": {"initialisation.epochs": 7}}
    assert not load_plan(changed).shipped
    per_seed = {"scale": "mini", "label": "each", "change": {"starting_weights_per_seed": True}}
    assert not load_plan(per_seed).shipped


def test_every_file_that_comes_with_the_suite_is_the_one_of_its_card() -> None:
    cards = read_cards(FOLDER)
    assert {one.path for one in cards.values()} == set(FOLDER.glob("*.safetensors"))
    assert sum(one.path.stat().st_size for one in cards.values()) <= MOST_BYTES
    for one in cards.values():
        assert {name.partition(".")[0] for name in read_weights(one)} == {
            "backbone",
            "neck",
            "rpn_head",
        }


def test_placed_weights_start_a_run_and_say_where_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FOLDER.absolute()
    plan = load_plan({"scale": "quick"}).model_copy(update={"shipped": read_cards(folder)})
    monkeypatch.chdir(tmp_path)
    run_id = next(iter(plan.initial_runs))
    placed = place_weights(plan, run_id, 0)
    card = plan.shipped[run_id]
    record = json.loads(placed.record.read_text())
    assert record["imported"] == {
        "path": str(card.path),
        "sha256": card.sha256,
        "time": record["started"],
    }
    assert record["shipped"]["commit"] == card.commit
    placed_weights = torch.load(placed.weights, weights_only=True)
    for name, tensor in load_file(card.path).items():
        assert torch.equal(placed_weights[name].to(tensor.dtype), tensor)


def test_a_plan_reads_back_with_its_shipped_weights(tmp_path: Path) -> None:
    plan = load_plan({"scale": "quick"})
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").shipped == plan.shipped
