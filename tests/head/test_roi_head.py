"""OBCRoIHead: later stages see RoI features at the box that the stages before them give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmengine import ConfigDict
from obc_heads import sampled
from torch import Tensor, nn

import obc.head.roi_head  # noqa: F401
from obc.bins import IGNORED

CHANNELS, CLASSES, SIDE = 4, 3, 2
META = {"img_shape": (64, 64)}


class RecordingExtractor(nn.Module):
    """In place of RoIAlign: a RoI's feature is made of its box; remembers what it was asked for."""

    num_inputs = 1
    featmap_strides = (8,)

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        self.asked.append(rois.detach().clone())
        pooled = features[0].mean() * rois[:, 1:] / 64
        return pooled[:, :, None, None].expand(-1, CHANNELS, SIDE, SIDE)


def roi_head(
    num_stages: int = 2,
    composition: str = "refine",
    bins: dict[str, Any] | None = None,
    **head: Any,
) -> nn.Module:
    torch.manual_seed(0)
    built = MODELS.build(
        {
            "type": "OBCRoIHead",
            "bbox_roi_extractor": {
                "type": "SingleRoIExtractor",
                "roi_layer": {"type": "RoIAlign", "output_size": SIDE, "sampling_ratio": 2},
                "out_channels": CHANNELS,
                "featmap_strides": [8],
            },
            "bbox_head": {
                "type": "OBCHead",
                "in_channels": CHANNELS,
                "roi_feat_size": SIDE,
                "fc_out_channels": 8,
                "num_classes": CLASSES,
                "bbox_coder": {
                    "type": "OffsetBinBBoxCoder",
                    "bins": {"num_stages": num_stages, **(bins or {})},
                    "composition": composition,
                },
                "loss_bbox": {"type": "CrossEntropyLoss", "loss_weight": 1.0},
                **head,
            },
            "train_cfg": ConfigDict(
                assigner={"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5},
                sampler={"type": "RandomSampler", "num": 8, "pos_fraction": 0.5},
                pos_weight=-1,
            ),
            "test_cfg": ConfigDict(
                score_thr=0.0, nms={"type": "nms", "iou_threshold": 0.5}, max_per_img=10
            ),
        }
    )
    built.init_weights()
    built.bbox_roi_extractor = RecordingExtractor()
    # Logits far from equal, so that stage 1 moves its boxes.
    for layer in [built.bbox_head.fc_reg, *(s.fc_reg for s in built.bbox_head.later_stages)]:
        nn.init.normal_(layer.weight, std=2.0)
        nn.init.normal_(layer.bias, std=2.0)
    return built


FEATURES = (torch.ones(3, CHANNELS, 8, 8),)
ROIS = torch.tensor([[0.0, 8, 8, 40, 40], [0, 4, 10, 24, 50], [1, 20, 20, 60, 44]])


def samples() -> list[SamplingResult]:
    return [
        sampled([[0.0, 0, 20, 20], [10, 10, 50, 30]], [[40.0, 40, 60, 60]]),
        sampled([], [[1.0, 1, 9, 9]]),
        sampled([[5.0, 5, 35, 45]], []),
    ]


def first_stage_boxes(head: nn.Module, rois: Tensor, predictions: Tensor, mode: str) -> Tensor:
    """Boxes of stage 1 alone, by a coder of one stage."""
    coder = head.bbox_head.bbox_coder
    offsets = coder.bins.decode_stages(predictions.view(len(rois), 4, 1, 22), mode)[..., 0]
    return coder.delta_coder.decode(rois[:, 1:], offsets)


# --- prediction ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["expectation", "argmax"])
def test_stage_two_sees_the_box_that_stage_one_decodes_to(mode: str) -> None:
    head = roi_head()
    head.bbox_head.bbox_coder.decode_mode = mode
    predictions = head._bbox_forward(FEATURES, ROIS)["bbox_pred"]
    proposals, refined = head.bbox_roi_extractor.asked
    assert torch.equal(proposals, ROIS)
    assert torch.equal(refined[:, 0], ROIS[:, 0])
    stage_one = predictions.view(3, 4, 2, 22)[:, :, 0]
    expected = first_stage_boxes(head, ROIS, stage_one, mode)
    assert (expected - ROIS[:, 1:]).abs().max() > 1
    torch.testing.assert_close(refined[:, 1:], expected, atol=1e-4, rtol=0)


def test_mixed_decoding_looks_again_where_argmax_leads() -> None:
    head = roi_head()
    asked = []
    for mode in ("argmax", "argmax_expectation"):
        head.bbox_head.bbox_coder.decode_mode = mode
        head._bbox_forward(FEATURES, ROIS)
        asked.append(head.bbox_roi_extractor.asked[-1])
    assert torch.equal(*asked)


def test_each_of_three_stages_sees_a_box_of_its_own() -> None:
    head = roi_head(num_stages=3)
    predictions = head._bbox_forward(FEATURES, ROIS)["bbox_pred"]
    assert predictions.shape == (3, 4 * 3 * 22)
    first, second, third = head.bbox_roi_extractor.asked
    coder = head.bbox_head.bbox_coder
    stages = coder.bins.decode_stages(coder.stage_logits(predictions))
    expected = coder.delta_coder.decode(ROIS[:, 1:], coder.compose(stages[..., :2]))
    torch.testing.assert_close(third[:, 1:], expected, atol=1e-4, rtol=0)
    assert not torch.equal(first, second) and not torch.equal(second, third)


def test_a_stage_that_sees_the_proposal_extracts_nothing_again() -> None:
    head = roi_head(stage_features="proposal")
    predictions = head._bbox_forward(FEATURES, ROIS)["bbox_pred"]
    assert predictions.shape == (3, 4 * 2 * 22)
    assert len(head.bbox_roi_extractor.asked) == 1


def test_logits_of_a_stage_are_those_of_its_layers_on_its_feature() -> None:
    head = roi_head()
    predictions = head._bbox_forward(FEATURES, ROIS)["bbox_pred"].view(3, 4, 2, 22)
    refined = head.bbox_roi_extractor.asked[1]
    features = head.bbox_roi_extractor(FEATURES, refined).flatten(1)
    stage = head.bbox_head.later_stages[0]
    for layer in (stage.fcs[0], stage.fcs[2]):
        features = layer(features).clamp(min=0)
    expected = stage.fc_reg(features).view(3, 4, 22)
    torch.testing.assert_close(predictions[:, :, 1], expected)


def test_without_layers_of_its_own_a_stage_takes_those_of_stage_one() -> None:
    head = roi_head(stage_fcs=0)
    predictions = head._bbox_forward(FEATURES, ROIS)["bbox_pred"].view(3, 4, 2, 22)
    features = head.bbox_roi_extractor(FEATURES, head.bbox_roi_extractor.asked[1]).flatten(1)
    for layer in head.bbox_head.shared_fcs:
        features = layer(features).clamp(min=0)
    expected = head.bbox_head.later_stages[0].fc_reg(features).view(3, 4, 22)
    torch.testing.assert_close(predictions[:, :, 1], expected)


def test_class_scores_are_those_of_stage_one() -> None:
    head = roi_head()
    features = head.bbox_roi_extractor(FEATURES, ROIS)
    expected, _ = head.bbox_head(features)
    assert torch.equal(head._bbox_forward(FEATURES, ROIS)["cls_score"], expected)


def test_class_scores_may_be_the_mean_over_the_stages() -> None:
    head = roi_head(class_scores="mean")
    nn.init.normal_(head.bbox_head.later_stages[0].fc_cls.weight)
    mean = head._bbox_forward(FEATURES, ROIS)["cls_score"]
    refined = head.bbox_roi_extractor.asked[1]
    first, _ = head.bbox_head(head.bbox_roi_extractor(FEATURES, ROIS))
    features = head.bbox_roi_extractor(FEATURES, refined)
    _, second = head.bbox_head.stage_predictions(1, features)
    torch.testing.assert_close(mean, (first + second) / 2)


def test_class_specific_stages_look_where_the_most_probable_class_leads() -> None:
    head = roi_head(reg_class_agnostic=False)
    results = head._bbox_forward(FEATURES, ROIS)
    likeliest = results["cls_score"][:, :CLASSES].argmax(1)
    by_class = results["bbox_pred"].view(3, CLASSES, 4, 2, 22)
    stage_one = by_class[torch.arange(3), likeliest, :, 0]
    expected = first_stage_boxes(head, ROIS, stage_one, "expectation")
    refined = head.bbox_roi_extractor.asked[1]
    torch.testing.assert_close(refined[:, 1:], expected, atol=1e-4, rtol=0)


def test_one_stage_is_what_the_standard_roi_head_does() -> None:
    head = roi_head(num_stages=1)
    results = head._bbox_forward(FEATURES, ROIS)
    expected = head.bbox_head(head.bbox_roi_extractor(FEATURES, ROIS))
    assert torch.equal(results["cls_score"], expected[0])
    assert torch.equal(results["bbox_pred"], expected[1])


def test_no_rois_give_no_predictions() -> None:
    results = roi_head(num_stages=3)._bbox_forward(FEATURES, torch.zeros(0, 5))
    assert results["bbox_pred"].shape == (0, 4 * 3 * 22)
    assert results["cls_score"].shape == (0, CLASSES + 1)


# --- training ------------------------------------------------------------------------------------


def test_later_stages_learn_from_the_positives_of_stage_one_alone() -> None:
    head = roi_head()
    head.bbox_loss(FEATURES, samples())
    everything, refined = head.bbox_roi_extractor.asked
    assert len(everything) == 5
    assert refined[:, 0].tolist() == [0, 0, 2]


def test_training_looks_where_the_expectation_leads_whatever_the_decoding() -> None:
    asked = []
    for mode in ("expectation", "argmax"):
        head = roi_head()
        head.bbox_head.bbox_coder.decode_mode = mode
        head.bbox_loss(FEATURES, samples())
        asked.append(head.bbox_roi_extractor.asked[1])
    assert torch.equal(*asked)


def test_stage_two_is_labelled_with_the_offset_from_the_box_that_it_sees() -> None:
    head = roi_head(bins={"stage_ranges": [3.0, 1.0]})
    logits: list[Tensor] = []
    head.bbox_head.box_loss, box_loss = (
        lambda *args: logits.append(args[0]) or box_loss(*args),
        head.bbox_head.box_loss,
    )
    head.bbox_loss(FEATURES, samples())
    refined = head.bbox_roi_extractor.asked[1]
    gt_boxes = torch.cat([result.pos_gt_bboxes for result in samples()])
    coder = head.bbox_head.bbox_coder
    left = coder.delta_coder.encode(refined[:, 1:], gt_boxes)
    offsets = torch.cat([coder.encode(r.pos_priors, r.pos_gt_bboxes) for r in samples()])
    labels = head.bbox_head._bin_labels(offsets, coder.stage_logits(logits[0]))[..., 1]
    inside = left.abs() < 1.0
    # Stage 2: width 0.1 from -1.
    expected = torch.where(inside, ((left + 1) / 0.1).floor().long(), 20 + (left > 0).long())
    assert torch.equal(labels, expected) and inside.any() and not inside.all()


def test_nothing_flows_back_through_the_box_that_stage_one_gives() -> None:
    head = roi_head()
    losses = head.bbox_loss(FEATURES, samples())["loss_bbox"]
    stage_one = head.bbox_head.fc_reg.weight
    with_both = torch.autograd.grad(losses["loss_bbox"], stage_one)[0]
    alone = roi_head(stage_loss_weights=[1.0, 1e-9])
    losses = alone.bbox_loss(FEATURES, samples())["loss_bbox"]
    by_itself = torch.autograd.grad(losses["loss_bbox"], alone.bbox_head.fc_reg.weight)[0]
    torch.testing.assert_close(with_both, by_itself, atol=1e-6, rtol=1e-4)


def test_the_feature_maps_learn_from_both_stages() -> None:
    features = (torch.ones(3, CHANNELS, 8, 8, requires_grad=True),)
    gradients = []
    for weights in ([1.0, 1e-9], [1.0, 1.0]):
        losses = roi_head(stage_loss_weights=weights).bbox_loss(features, samples())["loss_bbox"]
        gradients.append(torch.autograd.grad(losses["loss_bbox"], features)[0])
    assert not torch.allclose(*gradients)


def test_a_batch_without_positives_costs_nothing_and_reaches_every_layer() -> None:
    head = roi_head(num_stages=3)
    nothing = [sampled([], [[1.0, 1, 9, 9]]), sampled([], [[3.0, 3, 20, 20]])]
    losses = head.bbox_loss(FEATURES, nothing)["loss_bbox"]
    assert losses["loss_bbox"] == 0
    (losses["loss_bbox"] + losses["loss_cls"]).backward()
    assert all(weight.grad is not None for weight in head.bbox_head.parameters())


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_a_class_mean_trains_the_class_scores_of_every_stage_on_all_rois(
    class_agnostic: bool,
) -> None:
    head = roi_head(class_scores="mean", reg_class_agnostic=class_agnostic)
    losses = head.bbox_loss(FEATURES, samples())["loss_bbox"]
    assert len(head.bbox_roi_extractor.asked[1]) == 5
    losses["stage2.loss_cls"].backward()
    assert head.bbox_head.later_stages[0].fc_cls.weight.grad.abs().sum() > 0


def test_a_class_mean_leaves_the_box_loss_as_it_is() -> None:
    losses = [
        roi_head(class_scores=scores).bbox_loss(FEATURES, samples())["loss_bbox"]["loss_bbox"]
        for scores in ("first", "mean")
    ]
    assert losses[0].isfinite() and losses[1].isfinite()


def test_class_specific_stages_learn_where_the_own_class_leads() -> None:
    head = roi_head(reg_class_agnostic=False)
    first = head.bbox_loss(FEATURES, samples())
    # Every object of the samples is of class 1.
    rows = torch.tensor([0, 1, 4])
    stage_one = first["bbox_pred"].view(5, CLASSES, 4, 22)[rows, 1]
    proposals, refined = head.bbox_roi_extractor.asked
    expected = first_stage_boxes(head, proposals[rows], stage_one, "expectation")
    torch.testing.assert_close(refined[:, 1:], expected, atol=1e-4, rtol=0)


def test_three_stages_can_be_summed_in_units_of_the_proposal() -> None:
    head = roi_head(num_stages=3, composition="sum")
    losses = head.bbox_loss(FEATURES, samples())["loss_bbox"]
    assert losses["loss_bbox"].isfinite()


# --- what does not fit ---------------------------------------------------------------------------


def test_another_box_head_is_refused() -> None:
    with pytest.raises(TypeError, match="bbox_head builds a Shared2FCBBoxHead; OBCRoIHead needs"):
        MODELS.build(
            {
                "type": "OBCRoIHead",
                "bbox_roi_extractor": {
                    "type": "SingleRoIExtractor",
                    "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 2},
                    "out_channels": 4,
                    "featmap_strides": [8],
                },
                "bbox_head": {
                    "type": "Shared2FCBBoxHead",
                    "in_channels": 4,
                    "fc_out_channels": 8,
                    "num_classes": 3,
                },
            }
        )


def test_another_roi_head_is_told_to_look_again() -> None:
    head = roi_head().bbox_head
    arguments = [torch.zeros(1, 4), torch.zeros(1, 88), torch.zeros(1, 5)]
    with pytest.raises(TypeError, match="only the roi_head type OBCRoIHead extracts"):
        head.loss(*arguments, torch.zeros(1), torch.ones(1), torch.zeros(1, 4), torch.ones(1, 4))


def test_labels_of_what_stage_two_cannot_reach_are_never_ignored_by_default() -> None:
    head = roi_head().bbox_head
    offsets = torch.tensor([[5.0, -5.0, 0.0, 1.0]])
    labels = head._bin_labels(offsets, torch.zeros(1, 4, 2, 22))
    assert IGNORED not in labels
