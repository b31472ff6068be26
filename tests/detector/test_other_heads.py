"""The box heads that offset bins are compared with: what they learn, and that each one trains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import mmdet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny_detectors import images, sample, tiny_model_config, total

from obc.bins import OffsetBins
from obc.config.load_plan import load_plan
from obc.detector.model_config import model_config
from obc.detector.other_heads import (
    DistributionHead,
    IntegralBBoxCoder,
    VarianceBBoxCoder,
    VarianceHead,
)

BASE_CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
BEYOND = load_plan({"scale": "smoke"}).tables["beyond_paper"]
CLASSES = 3


@pytest.fixture(autouse=True)
def mmdetection_scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def roi_head_of(key: str, scale: str = "smoke") -> Config:
    """The config of the RoI head behind a row of the table of peers."""
    plan = load_plan({"scale": scale})
    run = plan.run_of(plan.tables["beyond_paper"].keyed_rows[key]).resolved
    return model_config(run, CLASSES).roi_head


def head_of(key: str, scale: str = "smoke") -> Config:
    """The config of its box head."""
    return roi_head_of(key, scale).bbox_head


# --- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", BEYOND.keyed_rows)
def test_every_peer_trains_and_detects(key: str) -> None:
    config = tiny_model_config("faster-rcnn_r50_fpn.py")
    config.roi_head.type = roi_head_of(key).type
    config.roi_head.bbox_head = head_of(key)
    for name in ("in_channels", "cls_in_channels", "reg_in_channels"):
        if name in config.roi_head.bbox_head:
            config.roi_head.bbox_head[name] = 16
    torch.manual_seed(0)
    model = MODELS.build(config).train()
    samples = [sample([[4, 6, 40, 44]]), sample([[20, 10, 60, 30], [8, 30, 30, 60]])]
    losses = model.loss(images(2), samples)
    total(losses).backward()
    assert torch.isfinite(total(losses))
    with torch.inference_mode():
        (found,) = model.eval().predict(images(1), samples[:1])
    assert torch.isfinite(found.pred_instances.bboxes).all()


@pytest.mark.parametrize("key", BEYOND.keyed_rows)
def test_every_peer_trains_and_detects_in_whole_pixels(key: str) -> None:
    plan = load_plan({"scale": "smoke"})
    run = plan.run_of(plan.tables["beyond_paper"].keyed_rows[key]).resolved
    torch.manual_seed(0)
    model = MODELS.build(model_config(run.model_copy(update={"protocol": "paper_v1"}), CLASSES))
    samples = [sample([[4, 6, 40, 44]]), sample([[20, 10, 60, 30], [8, 30, 30, 60]])]
    losses = model.train().loss(images(2), samples)
    total(losses).backward()
    assert torch.isfinite(total(losses))
    with torch.inference_mode():
        (found,) = model.eval().predict(images(1), samples[:1])
    assert torch.isfinite(found.pred_instances.bboxes).all()


def test_peers_differ_in_the_box_head_only_and_two_stages_in_who_extracts_their_features() -> None:
    plan = load_plan({"scale": "mini"})
    models = []
    for row in plan.tables["beyond_paper"].rows:
        model = model_config(plan.run_of(row).resolved, CLASSES)
        del model.roi_head.bbox_head
        two_stages = row.key == "full"
        assert model.roi_head.pop("type") == ("OBCRoIHead" if two_stages else "StandardRoIHead")
        models.append(model)
    assert all(model == models[0] for model in models)


def test_peers_of_one_scale_share_everything_but_the_box_loss() -> None:
    plan = load_plan({"scale": "mini"})
    runs = [plan.run_of(row).resolved for row in plan.tables["beyond_paper"].rows]
    shared = [(run.schedule, run.sizes, run.data, run.initial_run, run.protocol) for run in runs]
    assert all(one == shared[0] for one in shared)


def test_sabl_is_mmdetection_s_own_config_at_the_paper_s_widths() -> None:
    shipped = Config.fromfile(BASE_CONFIGS / "sabl/sabl-faster-rcnn_r50_fpn_1x_coco.py")
    shipped = shipped.model.roi_head.bbox_head
    shipped.pop("_delete_", None)
    shipped.num_classes = CLASSES
    assert head_of("sabl", "paper") == shipped


@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("giou", "faster_rcnn/faster-rcnn_r50_fpn_giou_1x_coco.py"),
        ("iou", "faster_rcnn/faster-rcnn_r50_fpn_iou_1x_coco.py"),
        ("balanced_l1", "libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py"),
    ],
)
def test_losses_are_those_of_mmdetection_s_own_configs(key: str, config: str) -> None:
    shipped = Config.fromfile(BASE_CONFIGS / config).model.roi_head.bbox_head
    ours = head_of(key)
    # What the loss's own defaults are, a config may spell out or leave out.
    built, expected = (MODELS.build(head.loss_bbox) for head in (ours, shipped))
    assert (type(built), vars(built).keys()) == (type(expected), vars(expected).keys())
    plain = {name: value for name, value in vars(expected).items() if not name.startswith("_")}
    assert {name: vars(built)[name] for name in plain} == plain
    assert ours.get("reg_decoded_bbox", False) == shipped.get("reg_decoded_bbox", False)


# --- distributions -----------------------------------------------------------------------------

ranges = st.floats(0.5, 8.0)
counts = st.integers(1, 40)


@given(ranges, counts, st.floats(-1, 1))
def test_the_distribution_that_minimises_the_loss_decodes_to_the_offset(
    a: float, intervals: int, fraction: float
) -> None:
    coder = IntegralBBoxCoder(max_offset=a, num_intervals=intervals)
    offset = fraction * a
    # Distribution focal loss is least where the two points around an offset share all of the
    # probability in inverse proportion to their distances (GFL, equation 6 and appendix).
    position = (offset + a) / (2 * a / intervals)
    left = min(int(position), intervals - 1)
    probabilities = torch.zeros(4, intervals + 1, dtype=torch.float64)
    probabilities[:, left] = left + 1 - position
    probabilities[:, left + 1] = position - left
    logits = probabilities.clamp(min=1e-30).log().float().reshape(1, -1)
    assert coder.deltas(logits) == pytest.approx(torch.full((1, 4), offset), abs=2e-5 * a)


def test_distribution_focal_loss_is_this_one_by_hand() -> None:
    # a = 2 and four intervals: points -2, -1, 0, 1, 2. The offset 0.25 is a quarter of the way from
    # 0 to 1, and with uniform logits each cross entropy is ln 5; four coordinates, divided by 8
    # sampled RoIs: 4 (0.75 ln 5 + 0.25 ln 5) / 8.
    head = distribution_head(max_offset=2.0, num_intervals=4)
    loss = head.box_loss(torch.zeros(1, 20), torch.full((1, 4), 0.25), torch.ones(1, 4), 8, None)
    assert loss.item() == pytest.approx(math.log(5) / 2)


def test_offsets_beyond_the_points_are_learnt_as_the_last_point() -> None:
    coder = IntegralBBoxCoder(max_offset=2.0, num_intervals=4)
    positions = coder.positions(torch.tensor([-100.0, 100.0]))
    assert positions.tolist() == pytest.approx([0.0, 4.0], abs=1e-3)
    assert positions[1] < 4  # a point after it is needed


@pytest.mark.parametrize("arguments", [{"max_offset": 0.0}, {"num_intervals": 0}])
def test_a_distribution_without_extent_is_refused(arguments: dict) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=name):
        IntegralBBoxCoder(**arguments)


def distribution_head(**points: float) -> DistributionHead:
    return DistributionHead(
        num_classes=CLASSES,
        in_channels=4,
        fc_out_channels=8,
        bbox_coder={"type": "IntegralBBoxCoder", **points},
    )


# --- variances ---------------------------------------------------------------------------------


@pytest.fixture
def variance_head() -> VarianceHead:
    return VarianceHead(num_classes=CLASSES, in_channels=4, fc_out_channels=8)


@pytest.mark.parametrize(
    ("error", "variance", "expected"),
    [
        (0.5, 1.0, 0.125),  # 0.5^2 / 2 / 1 + ln(1) / 2
        (2.0, 1.0, 1.5),  # beyond 1: 2 - 1/2
        (2.0, 4.0, 1.5 / 4 + math.log(4) / 2),
        (0.0, 0.25, math.log(0.25) / 2),
    ],
)
def test_kl_loss_is_this_one_by_hand(
    variance_head: VarianceHead, error: float, variance: float, expected: float
) -> None:
    predictions = torch.tensor([[error] * 4 + [math.log(variance)] * 4])
    loss = variance_head.box_loss(predictions, torch.zeros(1, 4), torch.ones(1, 4), 1, None)
    assert loss.item() == pytest.approx(4 * expected)


@given(error=st.floats(0.05, 0.95))
def test_the_best_variance_is_the_squared_error(error: float) -> None:
    # d/dv of e^2 / (2 v) + ln(v) / 2 is 0 at v = e^2.
    head = VarianceHead(num_classes=CLASSES, in_channels=4, fc_out_channels=8)
    predictions = torch.tensor([[error] * 4 + [math.log(error**2)] * 4], requires_grad=True)
    head.box_loss(predictions, torch.zeros(1, 4), torch.ones(1, 4), 1, None).backward()
    assert predictions.grad[0, 4:].abs().max() < 1e-4


def test_the_variance_has_no_part_in_the_box() -> None:
    coder = VarianceBBoxCoder()
    predictions = torch.tensor([[0.1, 0.2, 0.3, 0.4, 5.0, -5.0, 0.0, 1.0]])
    assert torch.equal(coder.deltas(predictions), predictions[:, :4])


@pytest.mark.parametrize("head", [DistributionHead, VarianceHead])
@pytest.mark.parametrize("part", ["bbox_coder", "loss_bbox"])
def test_parts_of_another_method_are_refused(head: type, part: str) -> None:
    other = {"bbox_coder": "DeltaXYWHBBoxCoder", "loss_bbox": "L1Loss"}[part]
    with pytest.raises(TypeError, match=part):
        head(num_classes=CLASSES, in_channels=4, **{part: {"type": other}})


# --- bins that are narrow around 0 -------------------------------------------------------------


def dfine_edges(a: float, m: int) -> list[float]:
    """D-FINE's weighting function W(n), n = 0..m, as its equation prints it, with c = a / 2."""
    c = a / 2
    edges = []
    for n in range(m + 1):
        distance = abs(n - m / 2) / (m / 2)
        edges.append(math.copysign(c * ((a / c + 1) ** distance - 1), n - m / 2))
    return edges


@given(ranges, st.integers(1, 40))
def test_weighted_bins_lie_between_the_edges_of_d_fine(a: float, m: int) -> None:
    bins = OffsetBins(max_offset=a, num_bins=m, spacing="weighted")
    edges = dfine_edges(a, m)
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    assert bins.centers[0].tolist() == pytest.approx([*middles, -a, a], abs=1e-5 * a)


@given(ranges, st.integers(1, 40), st.floats(0.02, 0.98), st.data())
def test_an_offset_between_two_edges_has_their_label(
    a: float, m: int, fraction: float, data: st.DataObject
) -> None:
    label = data.draw(st.integers(0, m - 1))
    low, high = dfine_edges(a, m)[label : label + 2]
    bins = OffsetBins(max_offset=a, num_bins=m, spacing="weighted")
    assert bins.encode(torch.tensor(low + fraction * (high - low))).item() == label


def test_weighted_bins_leave_the_overflow_bins_where_they_are() -> None:
    bins = OffsetBins(max_offset=3.0, num_bins=20, spacing="weighted")
    assert bins.encode(torch.tensor([-3.0, 3.0, 50.0]))[:, 0].tolist() == [20, 21, 21]


def test_weighted_bins_have_one_stage_only() -> None:
    with pytest.raises(ValueError, match="spacing='weighted' with num_stages=2"):
        OffsetBins(spacing="weighted", num_stages=2)
