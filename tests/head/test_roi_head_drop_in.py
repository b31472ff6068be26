"""OBCRoIHead in whole detectors: what it must work with, each built from an example's config."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from example_configs import (
    CLASS_SPECIFIC,
    EXAMPLES,
    FASTER,
    MASK,
    SHAPES,
    SOFT_NMS,
    TTA,
    read_config,
    small_model,
)
from mmdet.apis import DetInferencer
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from obc.head.roi_head import OBCRoIHead

SIDE = 64
BOXES_OF = pytest.mark.parametrize(
    "example", [FASTER, CLASS_SPECIFIC], ids=["class-agnostic", "class-specific"]
)
LATER = "roi_head.bbox_head.later_stages."


def config_of(example: str) -> Config:
    """An example with narrow networks."""
    config = deepcopy(read_config(EXAMPLES[example]))
    config.merge_from_dict(small_model(example))
    return config


def detector(example: str) -> nn.Module:
    """An example's detector with random weights, in a test."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        torch.manual_seed(0)
        model = MODELS.build(config_of(example).model)
        model.init_weights()
    # Bin layers start near 0, where every box stays at its proposal.
    for layer in (model.roi_head.bbox_head.fc_reg, model.roi_head.bbox_head.later_stages[0].fc_reg):
        nn.init.normal_(layer.weight, std=0.5)
    assert isinstance(model.roi_head, OBCRoIHead)
    return model.eval()


def bbox_head(example: str, **options: Any) -> nn.Module:
    """The box head of an example."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        torch.manual_seed(0)
        return MODELS.build({**config_of(example).model.roi_head.bbox_head, **options})


def batch(model: nn.Module, objects: list[int], masks: bool = False) -> dict[str, Any]:
    """Random images with so many objects each, as a detector takes them."""
    inputs = demo_mm_inputs(
        len(objects), (3, SIDE, SIDE), objects, SHAPES.num_classes, with_mask=masks
    )
    for sample in inputs["data_samples"]:
        sample.set_metainfo({"scale_factor": (1.0, 1.0)})
    return model.data_preprocessor(inputs, training=model.training)


def losses_of(model: nn.Module, objects: list[int], masks: bool = False) -> dict[str, Tensor]:
    model.train()
    torch.manual_seed(0)  # of the sampler
    return model(**batch(model, objects, masks), mode="loss")


def train_step(model: nn.Module, objects: list[int], masks: bool = False) -> dict[str, Tensor]:
    """One step of gradient descent; the losses before it."""
    losses = losses_of(model, objects, masks)
    total, _ = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    torch.optim.SGD(model.parameters(), lr=0.001).step()
    return losses


@torch.inference_mode()
def predicted(model: nn.Module, images: int = 1) -> list[InstanceData]:
    """Detections of each random image."""
    model.eval()
    return [one.pred_instances for one in model(**batch(model, [1] * images), mode="predict")]


@torch.inference_mode()
def from_proposals(model: nn.Module, proposals: list[Tensor]) -> list[InstanceData]:
    """Detections of each image from proposals (P, 4) of its own."""
    model.eval()
    data = batch(model, [1] * len(proposals))
    instances = [InstanceData(bboxes=boxes, scores=torch.ones(len(boxes))) for boxes in proposals]
    return model.roi_head.predict(
        model.extract_feat(data["inputs"]), instances, data["data_samples"], rescale=False
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Of the layers of later stages, by name."""
    return {
        name: weights.grad for name, weights in model.named_parameters() if name.startswith(LATER)
    }


# --- initial weights ---------------------------------------------------------------------------


def test_layers_of_a_later_stage_start_as_those_of_the_first() -> None:
    head = bbox_head(CLASS_SPECIFIC, class_scores="mean", fc_out_channels=64)
    head.init_weights()
    (later,) = head.later_stages
    for layer, std in ((later.fc_reg, 0.001), (later.fc_cls, 0.01)):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.2)
        assert not layer.bias.any()
    for mine, shared in zip((later.fcs[0], later.fcs[2]), head.shared_fcs, strict=True):
        assert mine.weight.std().item() == pytest.approx(shared.weight.std().item(), rel=0.05)
        assert not mine.bias.any()


# --- training ----------------------------------------------------------------------------------


@BOXES_OF
def test_a_step_on_several_images_changes_the_layers_of_every_stage(example: str) -> None:
    model = detector(example)
    before = {
        name: weights.clone() for name, weights in model.roi_head.bbox_head.named_parameters()
    }
    losses = train_step(model, [2, 3, 1])
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "acc"}
    assert math.isfinite(losses["loss_bbox"]) and losses["loss_bbox"] > 0
    after = dict(model.roi_head.bbox_head.named_parameters())
    assert not [name for name in before if torch.equal(before[name], after[name])]


@BOXES_OF
def test_an_image_without_positives_takes_part_in_a_batch(example: str) -> None:
    losses = train_step(detector(example), [0, 2])
    assert math.isfinite(losses["loss_bbox"]) and losses["loss_bbox"] > 0


@BOXES_OF
def test_a_batch_without_positives_has_no_box_loss_and_gradients_of_zero(example: str) -> None:
    """In distributed training every layer must have a gradient in every process."""
    model = detector(example)
    losses = train_step(model, [0, 0])
    assert losses["loss_bbox"] == 0 and losses["loss_cls"] > 0
    assert all(grad is not None and not grad.any() for grad in gradients(model).values())


@BOXES_OF
@pytest.mark.parametrize("objects", [0, 2])
def test_training_without_proposals(example: str, objects: int) -> None:
    """The sampler adds the objects themselves; without these too there is nothing to learn."""
    model = detector(example).train()
    data = batch(model, [objects])
    proposals = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))
    losses = model.roi_head.loss(
        model.extract_feat(data["inputs"]), [proposals], data["data_samples"]
    )
    assert math.isfinite(losses["loss_bbox"])
    assert bool(losses["loss_bbox"] > 0) == bool(objects)


def test_a_mask_branch_trains_beside_it() -> None:
    model = detector(MASK)
    losses = train_step(model, [2, 1], masks=True)
    assert losses["loss_mask"] > 0 and losses["loss_bbox"] > 0
    assert all(grad.any() for grad in gradients(model).values())


# --- prediction --------------------------------------------------------------------------------


@BOXES_OF
def test_boxes_lie_in_the_image_with_probabilities_as_scores(example: str) -> None:
    for found in predicted(detector(example), images=2):
        assert len(found) > 0
        assert found.bboxes.min() >= 0 and found.bboxes.max() <= SIDE
        assert found.scores.min() >= 0 and found.scores.max() <= 1


@BOXES_OF
def test_an_images_boxes_do_not_depend_on_the_others_of_its_batch(example: str) -> None:
    model = detector(example)
    low = torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(0)) * 30
    boxes = torch.cat([low, low + 20], dim=-1)
    both = from_proposals(model, [boxes[0], boxes[1]])
    alone = from_proposals(model, [boxes[0]])
    torch.testing.assert_close(both[0].bboxes, alone[0].bboxes)
    torch.testing.assert_close(both[0].scores, alone[0].scores)


@BOXES_OF
def test_without_proposals_there_are_no_boxes(example: str) -> None:
    (found,) = from_proposals(detector(example), [torch.zeros(0, 4)])
    assert found.bboxes.shape == (0, 4) and len(found.labels) == 0


@BOXES_OF
def test_an_image_without_proposals_takes_part_in_a_batch(example: str) -> None:
    some = torch.tensor([[10.0, 10, 40, 40]])
    none, found = from_proposals(detector(example), [torch.zeros(0, 4), some])
    assert len(none) == 0 and len(found) > 0


@BOXES_OF
def test_the_second_stage_moves_boxes(example: str) -> None:
    model, boxes = detector(example), torch.tensor([[10.0, 10, 40, 40]])
    (both,) = from_proposals(model, [boxes])
    model.roi_head.bbox_head.bbox_coder.decode_mode = "first_stage"
    (first,) = from_proposals(model, [boxes])
    assert both.bboxes.shape != first.bboxes.shape or not torch.allclose(both.bboxes, first.bboxes)


def test_masks_are_predicted_in_its_boxes() -> None:
    (found,) = predicted(detector(MASK))
    assert len(found) > 0 and found.masks.shape == (len(found), SIDE, SIDE)


def test_soft_nms_keeps_overlapping_boxes_that_nms_drops() -> None:
    (hard,), (soft,) = predicted(detector(FASTER)), predicted(detector(SOFT_NMS))
    assert len(soft) == 100 or len(soft) > len(hard)
    assert differ(soft.scores, hard.scores)


def test_test_time_augmentation_merges_views() -> None:
    model = detector(FASTER)
    config = ConfigDict(config_of(TTA).tta_model.tta_cfg)
    tta = DetTTAModel(module=model, tta_cfg=config)
    views = {"inputs": [], "data_samples": []}
    for flipped in (False, True):
        data = demo_mm_inputs(1, (3, SIDE, SIDE), [1], SHAPES.num_classes)
        image, sample = data["inputs"][0], data["data_samples"][0]
        sample.set_metainfo(
            {
                "scale_factor": (1.0, 1.0),
                "flip": flipped,
                "flip_direction": "horizontal" if flipped else None,
            }
        )
        views["inputs"].append([image.flip(-1) if flipped else image])
        views["data_samples"].append([sample])
    (merged,) = tta.test_step(views)
    (plain,) = predicted(model)
    assert len(merged.pred_instances) > 0
    assert differ(merged.pred_instances.bboxes, plain.bboxes)


def differ(one: Tensor, other: Tensor) -> bool:
    return one.shape != other.shape or not torch.allclose(one, other)


# --- MMDetection's inferencer ------------------------------------------------------------------


@BOXES_OF
def test_det_inferencer_takes_a_config_file_and_a_checkpoint(example: str, tmp_path: Path) -> None:
    model = detector(example)
    names = tuple(f"class {number}" for number in range(SHAPES.num_classes))
    checkpoint, written = tmp_path / "weights.pth", tmp_path / "config.py"
    meta = {"dataset_meta": {"classes": names, "palette": "random"}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, checkpoint)
    config = config_of(example)
    config.test_dataloader.dataset.pipeline[1].scale = (SIDE, SIDE)
    config.dump(written)
    inferencer = DetInferencer(
        str(written), str(checkpoint), device="cpu", palette="random", show_progress=False
    )
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    (found,) = inferencer(image, no_save_vis=True)["predictions"]
    assert isinstance(inferencer.model.roi_head, OBCRoIHead)
    assert len(found["bboxes"]) == len(found["scores"]) > 0
    assert set(found["labels"]) <= set(range(SHAPES.num_classes))


# --- torch.compile -----------------------------------------------------------------------------

# By one worker: what compiling needs takes seconds to import.
ONE_COMPILER = pytest.mark.xdist_group("compile")
# A graph break would raise: `fullgraph`.
COMPILED = {"backend": "aot_eager", "fullgraph": True}


@ONE_COMPILER
@BOXES_OF
def test_a_compiled_head_is_one_graph_with_the_same_numbers(example: str) -> None:
    head = detector(example).roi_head.bbox_head
    features = torch.randn(6, head.in_channels, 7, 7)
    for compiled, plain in zip(
        torch.compile(head, **COMPILED)(features), head(features), strict=True
    ):
        torch.testing.assert_close(compiled, plain)


@ONE_COMPILER
@BOXES_OF
@pytest.mark.parametrize("class_scores", ["first", "mean"])
def test_a_compiled_later_stage_is_one_graph_with_the_same_numbers(
    class_scores: str, example: str
) -> None:
    head = bbox_head(example, class_scores=class_scores)
    features = torch.randn(6, head.in_channels, 7, 7)
    compiled = torch.compile(head.stage_predictions, **COMPILED)(1, features)
    plain = head.stage_predictions(1, features)
    assert (plain[1] is None) == (class_scores == "first")
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other)


@ONE_COMPILER
@BOXES_OF
def test_a_detector_with_a_compiled_head_finds_and_learns_the_same(example: str) -> None:
    model, compiled = detector(example), detector(example)
    head = compiled.roi_head.bbox_head
    head.compile(**COMPILED)
    head.stage_predictions = torch.compile(head.stage_predictions, **COMPILED)
    (one,), (other,) = predicted(model), predicted(compiled)
    torch.testing.assert_close(one.bboxes, other.bboxes)
    one, other = losses_of(model, [2, 1]), losses_of(compiled, [2, 1])
    torch.testing.assert_close(one["loss_bbox"], other["loss_bbox"])
