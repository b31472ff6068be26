"""OBCHead inside MMDetection's own Faster and Cascade R-CNN, built from its base configs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from mmdet.registry import MODELS
from mmengine import Config, DefaultScope
from tiny_detectors import SIZE, images, sample, tiny_model_config, total
from torch import nn

import obc.head.roi_head  # noqa: F401  registers both heads and the coder

NUM_CLASSES = 3


@pytest.fixture(autouse=True)
def mmdetection_scope() -> Iterator[None]:
    """Parts of a detector name each other without a scope, as in a config of MMDetection."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def obc_head_config(
    num_stages: int, class_agnostic: bool, stage_features: str = "shared", **coder_arguments
) -> dict:
    return {
        "type": "OBCHead",
        "stage_features": stage_features,
        "in_channels": 16,
        "fc_out_channels": 32,
        "num_classes": NUM_CLASSES,
        "reg_class_agnostic": class_agnostic,
        "bbox_coder": {
            "type": "OffsetBinBBoxCoder",
            "bins": {"num_stages": num_stages},
            **coder_arguments,
        },
    }


def faster_rcnn(num_stages: int = 1, class_agnostic: bool = True, **arguments) -> nn.Module:
    model = tiny_model_config("faster-rcnn_r50_fpn.py")
    model.roi_head.bbox_head = obc_head_config(num_stages, class_agnostic, **arguments)
    return build(model)


def looks_again(num_stages: int = 1, class_agnostic: bool = True, **coder_arguments) -> nn.Module:
    """Faster R-CNN whose later stages extract RoI features again."""
    model = tiny_model_config("faster-rcnn_r50_fpn.py")
    model.roi_head.type = "OBCRoIHead"
    model.roi_head.bbox_head = obc_head_config(
        num_stages, class_agnostic, stage_features="refined", **coder_arguments
    )
    return build(model)


def cascade_rcnn(num_stages: int = 1, class_agnostic: bool = True, **coder_arguments) -> nn.Module:
    """The paper's cascade: two heads, IoU thresholds 0.5 and 0.7."""
    model = tiny_model_config("cascade-rcnn_r50_fpn.py")
    model.roi_head.update(num_stages=2, stage_loss_weights=[1, 0.5])
    model.roi_head.bbox_head = [
        obc_head_config(num_stages, class_agnostic, target_stds=stds, **coder_arguments)
        for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1])
    ]
    model.train_cfg.rcnn = [model.train_cfg.rcnn[0], model.train_cfg.rcnn[2]]
    return build(model)


def build(model: Config) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(model)


def bbox_heads(model: nn.Module) -> list[nn.Module]:
    heads = model.roi_head.bbox_head
    return list(heads) if isinstance(heads, nn.ModuleList) else [heads]


def box_layers(head: nn.Module) -> list[nn.Module]:
    """What predicts the logits of each stage, or of all of them."""
    last = [head.fc_reg] if hasattr(head.fc_reg, "weight") else list(head.fc_reg.stage_logits)
    return last + [stage.fc_reg for stage in head.later_stages]


detectors = pytest.mark.parametrize("detector", [faster_rcnn, looks_again, cascade_rcnn])
class_modes = pytest.mark.parametrize("class_agnostic", [True, False])
stage_counts = pytest.mark.parametrize("num_stages", [1, 2])


@detectors
@class_modes
@stage_counts
def test_every_box_branch_trains(detector, num_stages: int, class_agnostic: bool) -> None:
    model = detector(num_stages, class_agnostic).train()
    data_samples = [sample([[4, 6, 40, 44]]), sample([[20, 10, 60, 30], [8, 30, 30, 60]])]
    losses = model.loss(images(2), data_samples)
    total(losses).backward()
    assert torch.isfinite(total(losses))
    for head in bbox_heads(model):
        for layer in box_layers(head):
            gradient = layer.weight.grad
            assert torch.isfinite(gradient).all()
            assert gradient.abs().sum() > 0


@detectors
@class_modes
@stage_counts
def test_predicted_boxes_lie_in_the_image(detector, num_stages: int, class_agnostic: bool) -> None:
    model = detector(num_stages, class_agnostic).eval()
    with torch.inference_mode():
        results = model.predict(images(2), [sample([]), sample([])])
    for result in results:
        boxes = result.pred_instances.bboxes
        assert len(boxes) > 0
        assert boxes.shape[1] == 4
        assert ((boxes >= 0) & (boxes <= SIZE)).all()


@detectors
@class_modes
def test_a_batch_predicts_what_its_images_predict_alone(detector, class_agnostic: bool) -> None:
    model = detector(2, class_agnostic).eval()
    batch = images(2)
    with torch.inference_mode():
        together = model.predict(batch, [sample([]), sample([])])
        alone = [model.predict(batch[i : i + 1], [sample([])])[0] for i in range(2)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.pred_instances.bboxes, other.pred_instances.bboxes)
        torch.testing.assert_close(one.pred_instances.scores, other.pred_instances.scores)
        assert torch.equal(one.pred_instances.labels, other.pred_instances.labels)


@detectors
@class_modes
def test_images_without_ground_truth_train(detector, class_agnostic: bool) -> None:
    model = detector(2, class_agnostic).train()
    losses = model.loss(images(2), [sample([]), sample([])])
    total(losses).backward()
    for head in bbox_heads(model):
        for layer in box_layers(head):
            assert layer.weight.grad.abs().max() == 0
    box_losses = [value for name, value in losses.items() if name.endswith("loss_bbox")]
    assert sum(box_losses[-len(bbox_heads(model)) :]) == 0


@detectors
def test_both_decodings_come_from_the_same_weights(detector) -> None:
    expectation, argmax = detector(2).eval(), detector(2, decode_mode="argmax").eval()
    argmax.load_state_dict(expectation.state_dict())
    with torch.inference_mode():
        boxes = [
            model.predict(images(1), [sample([])])[0].pred_instances.bboxes
            for model in (expectation, argmax)
        ]
    assert boxes[0].shape != boxes[1].shape or not torch.allclose(*boxes)


@pytest.mark.parametrize("detector", [faster_rcnn, looks_again])
def test_untrained_logits_of_zero_detect_the_proposals_themselves(detector) -> None:
    model = detector(num_stages=2).eval()
    for layer in box_layers(model.roi_head.bbox_head):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    model.test_cfg.rcnn.nms.iou_threshold = 1.0
    with torch.inference_mode():
        features = model.extract_feat(images(1))
        proposals = model.rpn_head.predict(features, [sample([])], rescale=False)
        detected = model.roi_head.predict(features, proposals, [sample([])])[0].bboxes
    distances = torch.cdist(detected, proposals[0].bboxes, p=float("inf"))
    assert distances.min(dim=1).values.max() < 1e-4


def test_cascade_refinement_takes_the_logits_of_the_predicted_class() -> None:
    head = bbox_heads(cascade_rcnn(class_agnostic=False))[0]
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
    logits = torch.zeros(1, NUM_CLASSES, 4, 22)
    logits[0, 1, 0, 21] = 200.0  # class 1: dx = +3 stds of 0.1 = 0.3 widths = 6 pixels
    meta = {"img_shape": (SIZE, SIZE)}
    stays, moves = (
        head.regress_by_class(boxes, torch.tensor([label]), logits.flatten(1), meta)
        for label in (0, 1)
    )
    torch.testing.assert_close(stays, boxes, atol=1e-4, rtol=0)
    torch.testing.assert_close(moves, boxes + torch.tensor([6.0, 0, 6, 0]), atol=1e-3, rtol=0)


def test_a_cascade_weighs_the_bin_loss_of_its_second_head() -> None:
    weighted, plain = cascade_rcnn(), cascade_rcnn()
    plain.roi_head.stage_loss_weights = [1, 1]
    losses = []
    for model in (weighted, plain):
        torch.manual_seed(0)
        losses.append(model.train().loss(images(1), [sample([[4, 6, 40, 44]])]))
    assert losses[1]["s1.loss_bbox"] > 0
    torch.testing.assert_close(losses[0]["s1.loss_bbox"], losses[1]["s1.loss_bbox"] / 2)


@pytest.mark.parametrize("detector", [faster_rcnn, looks_again])
def test_the_legacy_coder_trains_and_predicts(detector) -> None:
    model = detector(num_stages=2, legacy=True)
    losses = model.train().loss(images(1), [sample([[4, 6, 40, 44]])])
    assert torch.isfinite(total(losses))
    with torch.inference_mode():
        boxes = model.eval().predict(images(1), [sample([])])[0].pred_instances.bboxes
    assert ((boxes >= 0) & (boxes <= SIZE - 1)).all()
