"""OBCHead: targets, losses and predictions of the offset bin branch."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import MODELS
from mmengine import ConfigDict
from obc_heads import (
    BATCH,
    BOX,
    FAR,
    HUGE,
    LINE,
    POINT,
    SHARED,
    TRAIN_CFG,
    loss_inputs,
    make_head,
    sampled,
    stages_on_one_feature,
    step,
)
from reference_numbers import check_slopes, softmax
from torch import Tensor

from obc.bins import OffsetBins
from obc.head.obc_head import OBCHead, StageBinPredictor

INF, NAN = float("inf"), float("nan")
SIX_LOGITS = {"num_bins": 4, "max_offset": 2}  # width 1, centres -1.5 -0.5 0.5 1.5 -2 2
TWO_STAGES = {"num_stages": 2}
TRUE_BIN = {**SHARED, "residual": "gt_bin", "composition": "sum"}


def cross_entropy(logits: np.ndarray, label: int) -> float:
    return float(np.log(np.exp(logits).sum()) - logits[label])


# --- building


def test_a_config_builds_the_head_with_the_papers_defaults() -> None:
    head = MODELS.build({"type": "OBCHead", "in_channels": 4, "fc_out_channels": 8})
    assert isinstance(head, OBCHead)
    assert head.bbox_coder.bins == OffsetBins(num_bins=20, max_offset=3, num_stages=1)
    assert head.fc_reg.out_features == 4 * 22


def test_class_specific_logits_are_one_set_a_class() -> None:
    assert make_head(num_classes=3, reg_class_agnostic=False).fc_reg.out_features == 3 * 4 * 22


def test_the_state_dict_holds_layers_only() -> None:
    names = {name.split(".")[0] for name in make_head(bins=TWO_STAGES, **SHARED).state_dict()}
    assert names == {"shared_fcs", "fc_cls", "fc_reg"}


@pytest.mark.parametrize("stage_fcs", [0, 2])
def test_logit_layers_start_small(stage_fcs: int) -> None:
    head = make_head(bins=TWO_STAGES, stage_features="shared", stage_fcs=stage_fcs)
    head.init_weights()
    linears = head.fc_reg.stage_logits if stage_fcs else [head.fc_reg]
    for linear in linears:
        assert linear.weight.std().item() == pytest.approx(0.001, rel=0.2)
        assert linear.bias.abs().max() == 0


def test_layers_of_a_later_stage_start_at_the_scale_of_the_shared_ones() -> None:
    # Xavier uniform for 8 x 8: standard deviation sqrt(2 / 16) = 0.35.
    head = make_head(bins=TWO_STAGES, stage_features="shared", stage_fcs=2)
    head.init_weights()
    assert head.fc_reg.stage_fcs[1][0].weight.std().item() == pytest.approx(0.35, rel=0.3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"residual": "bin"}, ValueError, "residual='bin'"),
        ({"stage_fcs": 1}, ValueError, "stage_fcs=1"),
        ({"bin_norm": "all"}, ValueError, "bin_norm='all'"),
        ({"coord_reduction": "max"}, ValueError, "coord_reduction='max'"),
        ({"reg_decoded_bbox": True}, ValueError, "reg_decoded_bbox"),
        (
            {
                "bins": TWO_STAGES,
                "stage_features": "shared",
                "stage_fcs": 2,
                "reg_predictor_cfg": {"type": "Linear"},
            },
            ValueError,
            "reg_predictor_cfg",
        ),
        ({"stage_features": "image"}, ValueError, "stage_features='image'"),
        ({"class_scores": "last"}, ValueError, "class_scores='last'"),
        ({"stage_loss_weights": [1, 1]}, ValueError, r"stage_loss_weights=\(1.0, 1.0\) must be 1"),
        (
            {"bins": TWO_STAGES, "stage_loss_weights": [1, 0]},
            ValueError,
            r"stage_loss_weights=\(1.0, 0.0\) must be 2 positive",
        ),
        ({"stage_loss_weights": 2.0}, TypeError, "stage_loss_weights=2.0 is not a sequence"),
        ({"stage_fcs": 2.0}, ValueError, "stage_fcs=2.0"),
        ({"conv_out_channels": 256}, ValueError, "conv_out_channels=256.* _delete_=True"),
        ({"norm_cfg": {"type": "GN", "num_groups": 2}}, ValueError, "norm_cfg=.*no convolutions"),
        ({"bins": TWO_STAGES, "residual": "gt_bin"}, ValueError, "composition='sum'"),
        (
            {"bins": TWO_STAGES, **SHARED, "class_scores": "mean"},
            ValueError,
            "class_scores='mean' with stage_features='shared'",
        ),
        ({"bins": TWO_STAGES, "composition": "product"}, ValueError, "composition='product'"),
        ({"loss_bbox": {"type": "L1Loss"}}, TypeError, "L1Loss"),
        (
            {"loss_bbox": {"type": "CrossEntropyLoss", "use_sigmoid": True}},
            ValueError,
            "use_sigmoid=True",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_head(**arguments)


@pytest.mark.parametrize("stage_fcs", [0, 2])
def test_another_heads_coder_is_refused(stage_fcs: int) -> None:
    with pytest.raises(TypeError, match="DeltaXYWHBBoxCoder"):
        OBCHead(bbox_coder={"type": "DeltaXYWHBBoxCoder"}, stage_fcs=stage_fcs)


# --- targets


def test_targets_are_the_deltas_of_the_positives() -> None:
    head = make_head()
    samples = [sampled(*image) for image in BATCH]
    labels, label_weights, targets, weights = head.get_targets(samples, TRAIN_CFG)
    assert labels.tolist() == [1, 1, 3, 3, 1]
    assert label_weights.tolist() == [1] * 5
    # Each ground truth is its proposal moved by 2: dx = 2 / width / 0.1, dy alike, dw = dh = 0.
    expected = [[1, 1, 0, 0], [0.5, 1, 0, 0], [0] * 4, [0] * 4, [2 / 3, 0.5, 0, 0]]
    torch.testing.assert_close(targets, torch.tensor(expected))
    assert weights[:, 0].tolist() == [1, 1, 0, 0, 1]


def test_targets_can_be_had_image_by_image() -> None:
    head = make_head()
    samples = [sampled(*image) for image in BATCH]
    together = head.get_targets(samples, TRAIN_CFG)
    by_image = head.get_targets(samples, TRAIN_CFG, concat=False)
    for whole, parts in zip(together, by_image, strict=True):
        assert [len(part) for part in parts] == [3, 1, 1]
        assert torch.equal(torch.cat(parts), whole)


def test_pos_weight_weighs_the_classes_of_the_positives() -> None:
    _, label_weights, _, _ = make_head().get_targets(
        [sampled(*BATCH[0])], ConfigDict(pos_weight=3.0)
    )
    assert label_weights.tolist() == [3, 3, 1]


# --- loss


def test_loss_is_the_cross_entropy_of_the_four_coordinates_over_sampled_rois() -> None:
    head = make_head(num_classes=1, bins=SIX_LOGITS)
    inputs = loss_inputs(head, labels=[0, 1])
    # Width 1 from -2: 0.2 -> bin 2, -1.5 -> bin 0, 5 -> m + 1 = 5, -3 -> m = 4.
    inputs["bbox_targets"][0] = torch.tensor([0.2, -1.5, 5.0, -3.0])
    logits = inputs["bbox_pred"].detach().double().numpy()[0].reshape(4, 6)
    expected = sum(cross_entropy(logits[i], label) for i, label in enumerate([2, 0, 5, 4])) / 2
    assert head.loss(**inputs)["loss_bbox"].item() == pytest.approx(expected, rel=1e-5)


def test_loss_sums_the_stages_and_leaves_out_what_they_ignore() -> None:
    bins = {**SIX_LOGITS, "num_stages": 2, "later_out_of_range": "ignore"}
    head = make_head(num_classes=1, bins=bins, **TRUE_BIN)
    inputs = loss_inputs(head, labels=[0])
    # Stage 2: a2 = 0.5, width 0.25. 0.2 leaves -0.3 of its centre 0.5: (0.2 / 0.25) -> bin 0.
    # 1.9 leaves 0.4 of 1.5: 3. The others overflow in stage 1 and are ignored in stage 2.
    inputs["bbox_targets"][0] = torch.tensor([0.2, 1.9, 5.0, -3.0])
    logits = inputs["bbox_pred"].detach().double().numpy()[0].reshape(4, 2, 6)
    labelled = [(0, 0, 2), (0, 1, 0), (1, 0, 3), (1, 1, 3), (2, 0, 5), (3, 0, 4)]
    expected = sum(cross_entropy(logits[i, k], label) for i, k, label in labelled)
    assert head.loss(**inputs)["loss_bbox"].item() == pytest.approx(expected, rel=1e-5)


def test_loss_of_untrained_logits_is_the_log_of_their_number() -> None:
    # All logits zero: each of 4 coordinates in 2 stages costs log 22.
    head = make_head(bins=TWO_STAGES, **SHARED)
    inputs = loss_inputs(head, labels=[1])
    inputs["bbox_pred"] = torch.zeros_like(inputs["bbox_pred"])
    inputs["bbox_targets"].clamp_(-2.9, 2.9)
    assert head.loss(**inputs)["loss_bbox"].item() == pytest.approx(8 * np.log(22), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "factor"),
    [
        ({"bin_norm": "positive"}, 4 / 3),  # 4 sampled RoIs, 3 positive
        ({"coord_reduction": "mean"}, 1 / 4),
        ({"bin_norm": "positive", "coord_reduction": "mean"}, 1 / 3),
        ({"loss_bbox": {"type": "CrossEntropyLoss", "loss_weight": 2.0}}, 2),
    ],
)
def test_normalisers_scale_the_loss(arguments: dict, factor: float) -> None:
    default, head = make_head(), make_head(**arguments)
    inputs = loss_inputs(default, labels=[0, 1, 2, 3])
    expected = default.loss(**inputs)["loss_bbox"] * factor
    torch.testing.assert_close(head.loss(**inputs)["loss_bbox"], expected)


def test_box_weights_weigh_the_coordinates() -> None:
    head = make_head()
    inputs = loss_inputs(head, labels=[0])
    by_coordinate = []
    for i in range(4):
        inputs["bbox_weights"] = torch.eye(4)[i : i + 1]
        by_coordinate.append(head.loss(**inputs)["loss_bbox"])
    inputs["bbox_weights"] = torch.ones(1, 4)
    torch.testing.assert_close(sum(by_coordinate), head.loss(**inputs)["loss_bbox"])


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_only_the_logits_of_positives_have_a_gradient(class_agnostic: bool) -> None:
    head = make_head(num_classes=2, reg_class_agnostic=class_agnostic)
    inputs = loss_inputs(head, labels=[1, 2, 0])  # 2 is background
    head.loss(**inputs)["loss_bbox"].backward()
    by_roi = inputs["bbox_pred"].grad.abs().view(3, -1, 88).sum(-1) > 0
    expected = [[True], [False], [True]]
    if not class_agnostic:
        expected = [[False, True], [False, False], [True, False]]
    assert by_roi.tolist() == expected


@pytest.mark.parametrize("bin_norm", ["sampled", "positive"])
@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("num_rois", [0, 3])
def test_no_positives_cost_nothing_and_still_reach_the_layers(
    num_rois: int, class_agnostic: bool, residual: str, bin_norm: str
) -> None:
    head = make_head(reg_class_agnostic=class_agnostic, residual=residual, bin_norm=bin_norm)
    cls_score, bbox_pred = head(torch.ones(num_rois, 4, 2, 2))
    inputs = loss_inputs(head, labels=[3] * num_rois)
    losses = head.loss(**{**inputs, "cls_score": cls_score, "bbox_pred": bbox_pred})
    assert losses["loss_bbox"] == 0
    losses["loss_bbox"].backward()
    assert head.fc_reg.weight.grad.abs().max() == 0


def test_offsets_that_every_stage_ignores_cost_nothing() -> None:
    head = make_head(bins={"out_of_range": "ignore"})
    inputs = loss_inputs(head, labels=[0])
    inputs["bbox_targets"].fill_(9.0)
    loss = head.loss(**inputs)["loss_bbox"]
    loss.backward()
    assert loss == 0
    assert inputs["bbox_pred"].grad.abs().max() == 0


def test_class_specific_equals_class_agnostic_for_one_class() -> None:
    heads = [make_head(num_classes=1, reg_class_agnostic=agnostic) for agnostic in (True, False)]
    inputs = loss_inputs(heads[0], labels=[0, 1, 0])
    agnostic, specific = (head.loss(**inputs)["loss_bbox"] for head in heads)
    assert torch.equal(agnostic, specific)


def test_class_specific_uses_the_logits_of_the_rois_own_class() -> None:
    specific, agnostic = make_head(reg_class_agnostic=False), make_head()
    inputs = loss_inputs(specific, labels=[2, 3, 0])
    expected = specific.loss(**inputs)["loss_bbox"]
    by_class = inputs["bbox_pred"].view(3, 3, 88)
    inputs["bbox_pred"] = torch.stack([by_class[0, 2], by_class[1, 0], by_class[2, 0]])
    torch.testing.assert_close(agnostic.loss(**inputs)["loss_bbox"], expected)


def test_loss_and_target_finds_the_positives_of_every_image() -> None:
    head = make_head(bins=TWO_STAGES, **SHARED)
    samples = [sampled(*image) for image in BATCH]
    inputs = loss_inputs(head, labels=[1, 1, 3, 3, 1])
    cls_score, bbox_pred, rois = inputs["cls_score"], inputs["bbox_pred"], inputs["rois"]
    result = head.loss_and_target(cls_score, bbox_pred, rois, samples, TRAIN_CFG)
    expected = head.loss(cls_score, bbox_pred, rois, *head.get_targets(samples, TRAIN_CFG))
    assert result["loss_bbox"].keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(result["loss_bbox"][name], value)
    assert result["bbox_targets"][2].shape == (5, 4)


@pytest.mark.parametrize("bin_norm", ["sampled", "positive"])
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_loss_is_the_same_without_the_rows_of_the_positives(
    class_agnostic: bool, bin_norm: str
) -> None:
    head = make_head(
        bins=TWO_STAGES, reg_class_agnostic=class_agnostic, bin_norm=bin_norm, **SHARED
    )
    inputs = loss_inputs(head, labels=[2, 3, 3, 0, 3])
    inputs["bbox_targets"][[1, 2, 4]] = float("nan")  # of negatives: nothing may depend on them
    logits = inputs["bbox_pred"]
    gradients = []
    for pos_inds in (torch.tensor([0, 3]), None):
        loss = head.loss(**inputs, pos_inds=pos_inds)["loss_bbox"]
        gradients.append((loss.detach(), *torch.autograd.grad(loss, logits)))
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("label_weights", [[1.0, 1, 1], [3.0, 0, 0.5], [0.0, 0, 0]])
def test_classification_losses_are_those_of_mmdetection(label_weights: list[float]) -> None:
    head = make_head()
    inputs = loss_inputs(head, labels=[2, 3, 0])
    inputs["label_weights"] = torch.tensor(label_weights)
    theirs = BBoxHead.loss(head, **{**inputs, "bbox_pred": None})
    ours = head.loss(**inputs)
    assert torch.equal(ours["loss_cls"], theirs["loss_cls"])
    assert torch.equal(ours["acc"], theirs["acc"])


def test_a_classification_loss_with_an_activation_of_its_own_reports_what_it_does_elsewhere() -> (
    None
):
    # Seesaw loss has one logit more, two losses and two accuracies.
    head = make_head(loss_cls={"type": "SeesawLoss", "num_classes": 3})
    inputs = loss_inputs(head, labels=[2, 3, 0])
    inputs["cls_score"] = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    # It counts the samples that it has seen: each head starts anew.
    theirs = BBoxHead.loss(deepcopy(head), **{**inputs, "bbox_pred": None})
    ours = head.loss(**inputs)
    assert {name: ours[name] for name in theirs} == theirs


def test_losses_have_mmdetections_names() -> None:
    # Cascade R-CNN weighs every key that contains "loss".
    head = make_head()
    assert set(head.loss(**loss_inputs(head, [0, 3]))) == {"loss_cls", "acc", "loss_bbox"}


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_logits_give_the_loss_of_the_same_values_in_float32(autocast: bool) -> None:
    head = make_head(bins=TWO_STAGES, **SHARED)
    inputs = loss_inputs(head, labels=[0, 3])
    inputs["bbox_pred"] = inputs["bbox_pred"].detach().bfloat16()
    expected = head.loss(**{**inputs, "bbox_pred": inputs["bbox_pred"].float()})["loss_bbox"]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(head.loss(**inputs)["loss_bbox"], expected)


# --- the residual of later stages


def sure_of_bin_two(offsets: list[float]) -> dict[str, Tensor]:
    """One positive RoI: stage 1 is sure of bin 2, centre 0.5; stage 2 has some logits."""
    head = make_head(num_classes=1, bins={**SIX_LOGITS, "num_stages": 2}, **SHARED)
    inputs = loss_inputs(head, labels=[0])
    inputs["bbox_targets"][0] = torch.tensor(offsets)
    logits = torch.zeros(4, 2, 6)
    logits[:, 0, 2] = 50.0
    logits[:, 1] = torch.arange(6) / 10
    inputs["bbox_pred"] = logits.reshape(1, -1)
    return inputs


STAGE_TWO = (np.arange(6) / 10).astype(np.float32).astype(float)


@pytest.mark.parametrize("residual", ["pred", "argmax_bin"])
@pytest.mark.parametrize(
    ("later", "labels"), [("overflow", [0, 3, 5, 4]), ("clamp", [0, 3, 3, 0]), ("ignore", [0, 3])]
)
def test_stage_two_is_labelled_by_what_stage_one_leaves(
    later: str, labels: list[int], residual: str
) -> None:
    # Offset 0.2 leaves -0.3 -> bin 0 of [-0.5, 0.5]; 0.9 leaves 0.4 -> bin 3; 1.2 leaves 0.7 and
    # -1 leaves -1.5, outside of stage 2's range. Stage 1's own labels are 2, 2, 3, 1: being sure of
    # bin 2 costs 0, 0, 50, 50.
    inputs = sure_of_bin_two([0.2, 0.9, 1.2, -1.0])
    bins = {**SIX_LOGITS, "num_stages": 2, "later_out_of_range": later}
    head = make_head(num_classes=1, bins=bins, residual=residual, composition="sum", **SHARED)
    expected = 100 + sum(cross_entropy(STAGE_TWO, label) for label in labels)
    assert head.loss(**inputs)["loss_bbox"].item() == pytest.approx(expected, rel=1e-5)


def test_residual_pred_is_what_the_expectation_leaves_not_the_most_probable_bin() -> None:
    # Stage 1 is torn between bins 1 and 2, a little for 2: expectation 0, most probable 0.5.
    inputs = sure_of_bin_two([0.3] * 4)
    logits = inputs["bbox_pred"].view(4, 2, 6)
    logits[:, 0, 1] = 50.0
    logits[:, 0, 2] = 50.001
    bins = {**SIX_LOGITS, "num_stages": 2}
    by_residual = [
        make_head(num_classes=1, bins=bins, residual=residual, composition="sum", **SHARED)
        .loss(**inputs)["loss_bbox"]
        .item()
        for residual in ("pred", "argmax_bin")
    ]
    # 0.3 leaves 0.3 -> bin 3 of the expectation, and -0.2 -> bin 1 of the most probable bin.
    stage_one = cross_entropy(logits[0, 0].double().numpy(), 2)
    expected = [4 * (stage_one + cross_entropy(STAGE_TWO, label)) for label in (3, 1)]
    assert by_residual == pytest.approx(expected, rel=1e-4)


def test_stage_loss_weights_weigh_the_stages() -> None:
    inputs = sure_of_bin_two([0.2, 0.9, 1.2, -1.0])
    bins = {**SIX_LOGITS, "num_stages": 2}
    head = make_head(
        num_classes=1, bins=bins, composition="sum", stage_loss_weights=[0.5, 0.25], **SHARED
    )
    stage_two = sum(cross_entropy(STAGE_TWO, label) for label in [0, 3, 5, 4])
    expected = 0.5 * 100 + 0.25 * stage_two
    assert head.loss(**inputs)["loss_bbox"].item() == pytest.approx(expected, rel=1e-5)


# --- layers of later stages


def test_stage_predictor_orders_coordinate_stage_bin() -> None:
    head = make_head(
        num_classes=2,
        bins=TWO_STAGES,
        stage_features="shared",
        stage_fcs=2,
        reg_class_agnostic=False,
    )
    for stage, linear in enumerate(head.fc_reg.stage_logits):
        torch.nn.init.zeros_(linear.weight)
        # class, coordinate, bin as digits: 1000 stage + 100 (4 class + coordinate) + bin
        with torch.no_grad():
            linear.bias.copy_((torch.arange(8)[:, None] * 100 + torch.arange(22)).flatten())
            linear.bias.add_(1000 * stage)
    predictions = head.fc_reg(torch.zeros(1, 8)).view(2, 4, 2, 22)
    assert predictions[1, 2, 1, 21] == 1000 + 100 * (4 * 1 + 2) + 21
    assert predictions[0, 3, 0, 5] == 100 * 3 + 5


def test_stage_one_reads_the_shared_feature_directly() -> None:
    predictor = StageBinPredictor(8, 4 * 2 * 22, num_stages=2, num_logits=22, num_fcs=2)
    assert len(predictor.stage_fcs[0]) == 0
    assert [type(layer).__name__ for layer in predictor.stage_fcs[1]] == ["Linear", "ReLU"] * 2


@pytest.mark.parametrize("num_rois", [0, 2])
def test_a_head_with_stage_fcs_trains(num_rois: int) -> None:
    torch.manual_seed(0)
    head = make_head(bins=TWO_STAGES, stage_features="shared", stage_fcs=2)
    head.init_weights()
    cls_score, bbox_pred = head(torch.ones(num_rois, 4, 2, 2))
    inputs = loss_inputs(head, labels=[0] * num_rois)
    inputs["bbox_targets"].clamp_(-2.9, 2.9)
    losses = head.loss(**{**inputs, "cls_score": cls_score, "bbox_pred": bbox_pred})
    losses["loss_bbox"].backward()
    gradient = head.fc_reg.stage_fcs[1][0].weight.grad
    assert (gradient.abs().sum() > 0) == (num_rois > 0)


# --- prediction


def test_class_specific_prediction_equals_class_agnostic_for_one_class() -> None:
    heads = [make_head(num_classes=1, reg_class_agnostic=agnostic) for agnostic in (True, False)]
    generator = torch.Generator().manual_seed(0)
    rois = torch.tensor([[0, 10.0, 10, 30, 30], [0, 5, 20, 40, 60]])
    cls_score, logits = torch.zeros(2, 2), torch.randn(2, 88, generator=generator)
    meta = {"img_shape": (64, 64)}
    agnostic, specific = (
        head.predict_by_feat((rois,), (cls_score,), (logits,), [meta])[0].bboxes for head in heads
    )
    assert torch.equal(agnostic, specific)


# --- gradients


LARGEST_HALF = 65504.0


@pytest.mark.parametrize("sign", [-1, 1])
def test_loss_of_logits_at_the_end_of_float16_is_exact(sign: int) -> None:
    # The true bin is 131,008 below the only other one with mass: that is the loss.
    head = make_head(num_classes=1)
    inputs = loss_inputs(head, labels=[0])
    inputs["bbox_targets"].fill_(0.1)  # bin 10
    logits = torch.full((4, 22), -LARGEST_HALF, dtype=torch.float16)
    logits[:, 10 + sign] = LARGEST_HALF
    inputs["bbox_pred"] = logits.reshape(1, -1)
    assert head.loss(**inputs)["loss_bbox"].item() == pytest.approx(4 * 2 * LARGEST_HALF, rel=1e-6)


def test_gradient_of_the_loss_is_p_minus_the_true_bin() -> None:
    # Equation 8 with the sign of a loss that falls. Two of four RoIs are positive; the sum is over
    # sampled RoIs. Offsets 1.0 -> bins 13, 6 (worked in test_bins), 5.0 -> overflow, then ignored.
    head = stages_on_one_feature(num_classes=1, residual="gt_bin")
    inputs = loss_inputs(head, labels=[0, 1, 0, 1])
    inputs["bbox_targets"][0], inputs["bbox_targets"][2] = 1.0, 5.0
    head.loss(**inputs)["loss_bbox"].backward()
    p = softmax(inputs["bbox_pred"].detach().double().numpy().reshape(4, 4, 2, 22))
    expected = np.zeros_like(p)
    expected[0] = p[0]
    expected[0, :, 0, 13] -= 1
    expected[0, :, 1, 6] -= 1
    expected[2, :, 0] = p[2, :, 0]
    expected[2, :, 0, 21] -= 1
    gradient = inputs["bbox_pred"].grad.numpy().reshape(4, 4, 2, 22)
    np.testing.assert_allclose(gradient, expected / 4, atol=1e-7)


@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_gradient_of_the_loss_is_that_of_finite_differences(
    class_agnostic: bool, residual: str
) -> None:
    head = stages_on_one_feature(
        num_classes=2, num_bins=3, reg_class_agnostic=class_agnostic, residual=residual
    )
    inputs = loss_inputs(head, labels=[1, 2, 0])

    def loss(logits: Tensor) -> Tensor:
        return head.loss(**{**inputs, "bbox_pred": logits})["loss_bbox"]

    check_slopes(loss, inputs["bbox_pred"])


def test_no_gradient_flows_through_the_labels_of_residual_pred() -> None:
    # Stage 1's loss with and without a stage after it that reads its prediction.
    one, two = (stages_on_one_feature(k, num_classes=1, residual="pred") for k in (1, 2))
    inputs = loss_inputs(two, labels=[0])
    two.loss(**inputs)["loss_bbox"].backward()
    first = inputs["bbox_pred"].detach().view(1, 4, 2, 22)[:, :, 0].reshape(1, -1).requires_grad_()
    one.loss(**{**inputs, "bbox_pred": first})["loss_bbox"].backward()
    of_first = inputs["bbox_pred"].grad.view(1, 4, 2, 22)[:, :, 0]
    torch.testing.assert_close(of_first.flatten(1), first.grad)


# --- extreme boxes and batches


@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
@pytest.mark.parametrize(
    "images",
    [
        [([BOX], [])],
        [([], [BOX])],
        [([BOX] * 5, [])],
        [([], [BOX] * 5)],
        [([], [BOX]), ([BOX], [])],
        [([POINT], [BOX])],
        [([LINE, POINT, BOX], [POINT])],
        [([FAR], [FAR])],
        [([HUGE], [HUGE])],
    ],
    ids=["one positive", "one negative", "all positive", "all negative", "one image each",
         "no area", "no width", "far away", "huge"],
)  # fmt: skip
def test_any_batch_has_finite_losses_and_gradients(
    images: list[tuple[list, list]], residual: str, class_agnostic: bool
) -> None:
    head = stages_on_one_feature(residual=residual, reg_class_agnostic=class_agnostic)
    losses = step(head, images)
    assert torch.isfinite(losses["loss_cls"]) and torch.isfinite(losses["loss_bbox"])
    has_positives = any(positives for positives, _ in images)
    assert (losses["loss_bbox"] > 0) == has_positives


def test_no_roi_at_all_costs_nothing() -> None:
    losses = step(stages_on_one_feature(), [([], [])])
    assert losses.keys() == {"loss_bbox"}  # as MMDetection's heads, which leave out the classes
    assert losses["loss_bbox"] == 0


@pytest.mark.parametrize("offset", [INF, -INF, 3e38, -3e38, NAN])
@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
def test_an_offset_without_measure_is_an_overflow_or_nothing(residual: str, offset: float) -> None:
    head = stages_on_one_feature(num_classes=1, residual=residual)
    inputs = loss_inputs(head, labels=[0])
    inputs["bbox_targets"].fill_(offset)
    loss = head.loss(**inputs)["loss_bbox"]
    loss.backward()
    assert torch.isfinite(inputs["bbox_pred"].grad).all()
    first_stage = inputs["bbox_pred"].detach().double().numpy().reshape(4, 2, 22)[:, 0]
    label = {True: 21, False: 20}[offset > 0]
    expected = 0.0 if np.isnan(offset) else -np.log(softmax(first_stage)[:, label]).sum()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


# --- size


@pytest.mark.parametrize("num_stages", [1, 2, 3])
def test_logits_take_the_memory_of_their_numbers(num_stages: int) -> None:
    head = stages_on_one_feature(num_stages)
    _, logits = head(torch.ones(50, 4, 2, 2))
    theoretical = 50 * 4 * num_stages * 22 * 4
    assert logits.untyped_storage().nbytes() <= 1.1 * theoretical
    by_stage = head.bbox_coder.stage_logits(logits)
    assert by_stage.data_ptr() == logits.data_ptr()  # a view


def test_what_backpropagation_keeps_of_the_box_loss_grows_with_positives_only() -> None:
    head = stages_on_one_feature()
    kept: dict[int, int] = {}

    def measure(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    inputs = loss_inputs(head, labels=[1] + [3] * 999)
    with torch.autograd.graph.saved_tensors_hooks(measure, lambda tensor: tensor):
        head.loss(**{**inputs, "cls_score": None}, pos_inds=torch.tensor([0]))
    # The probabilities of one RoI, and its labels, weights and row beside them.
    assert 0 < sum(kept.values()) <= 2 * head.bbox_coder.encode_size * 4


@pytest.mark.parametrize("decode_mode", ["expectation", "argmax"])
def test_weights_are_the_same_whatever_the_decoding_and_hold_no_buffers(decode_mode: str) -> None:
    head = stages_on_one_feature()
    before = list(head.state_dict())
    head.bbox_coder.decode_mode = decode_mode
    head.bbox_coder.decode(torch.zeros(1, 4), torch.zeros(1, head.bbox_coder.encode_size))
    assert list(head.state_dict()) == before
    assert not list(head.buffers())
