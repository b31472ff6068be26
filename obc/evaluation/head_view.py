"""What a trained OBC head predicts for the proposals of one image: bins, offsets, boxes.

Shape shorthand: R RoIs (proposals) of an image, G objects, C classes, K stages, n logits per stage.
Boxes are edges (x1, y1, x2, y2) in pixels of the network's input. Boxes "in the coder's convention"
are in whole pixels instead under protocol `paper_v1` (`detector.whole_pixels`). Offsets are those
of equation 1, divided by `target_stds`; their four coordinates are in the order x, y, w, h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from obc.bins import IGNORED, DecodeMode, OffsetBins
from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.plan import Plan
from obc.detector.trained import load_trained_run
from obc.head.coders import OffsetBinBBoxCoder
from obc.head.obc_head import OBCHead
from obc.io.errors import SuiteError

COORDINATES = ("x", "y", "w", "h")
POSITIVE_IOU = 0.5
"""IoU with an object from which a proposal is positive (in a cascade, to the first head)."""


class InsideError(SuiteError):
    """The run has no offset bins, or the validation set lacks an image; the message says which."""


# --- a trained detector and its validation set -------------------------------------------------


@dataclass(frozen=True)
class TrainedDetector:
    """The network of a trained run, and its validation set.

    Attributes:
        model: the detector, in evaluation mode.
        dataset: its validation set, as MMDetection tests on it.
        image_rows: row of each image in `dataset`, by image id, in the order of the set.
        classes: names.
    """

    model: nn.Module
    dataset: Any
    image_rows: dict[int, int]
    classes: tuple[str, ...]

    @property
    def head(self) -> OBCHead:
        """The `OBCHead`; in a cascade the first head, whose RoIs are the proposals."""
        return _first(self.model.roi_head.bbox_head)

    @property
    def coder(self) -> OffsetBinBBoxCoder:
        """The head's coder, which converts between offsets, bins and boxes."""
        return self.head.bbox_coder


def load_trained(plan: Plan, run_id: str, seed: int) -> TrainedDetector:
    """Load a trained run of a plan.

    Raises:
        InsideError: the plan has no such run, or its head regresses and has no bins.
        WeightsError, NotIndexed: see `load_trained_run`.
    """
    specs = {name: run.resolved.spec for name, run in plan.runs.items()}
    binned = [name for name, spec in specs.items() if isinstance(spec.box, OffsetBin)]
    if run_id not in binned:
        why = "has no bins" if run_id in specs else "is not in this plan"
        allowed = "\n  ".join(binned) or "(none)"
        raise InsideError(f"run {run_id!r} {why}; runs with offset bins are\n  {allowed}")
    model, config = load_trained_run(plan, run_id, seed)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    rows = {dataset.get_data_info(row)["img_id"]: row for row in range(len(dataset))}
    return TrainedDetector(model, dataset, rows, tuple(dataset.metainfo["classes"]))


# --- looking -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoded:
    """Offsets and boxes that one decoding computes from the bin probabilities.

    Attributes:
        offsets: predicted by each stage, (R, 4, K); the coder composes them.
        boxes: after each stage, (R, K, 4), clipped as in a test; the last are the head's boxes.
    """

    offsets: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class HeadView:
    """A head's predictions for R RoIs of one image, and the ground truth. Tensors are on the CPU.

    Attributes:
        image_id: in the validation set's annotations.
        image_path: the image file.
        size: height and width of the network's input without padding, in pixels.
        classes: names, C of them.
        coder: of the head; has the bins and the normalisation of offsets.
        proposals: boxes of the RoIs, (R, 4), in the order of the RPN's score.
        scores: class probabilities, (R, C + 1), background last.
        probabilities: of the bins, (R, 4, K, n), with earlier stages decoded by expectation; of the
            most probable class if class-specific.
        expectation: decoded by the expectation over the bins (equation 10).
        argmax: decoded by the most probable bin.
        objects: ground truth, crowds left out, (G, 4).
        object_labels: classes of the objects, (G,).
        matched: index of the object with the largest IoU, (R,); -1 if no object overlaps.
        ious: that IoU, (R,).
        offsets: true offset from the proposal to that object, (R, 4); NaN if no object overlaps.
    """

    image_id: int
    image_path: Path
    size: tuple[int, int]
    classes: tuple[str, ...]
    coder: OffsetBinBBoxCoder
    proposals: Tensor
    scores: Tensor
    probabilities: Tensor
    expectation: Decoded
    argmax: Decoded
    objects: Tensor
    object_labels: Tensor
    matched: Tensor
    ious: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        """Number of RoIs, R."""
        return len(self.proposals)

    @property
    def truth(self) -> Tensor:
        """Ground truth box of each RoI, (R, 4); NaN if no object overlaps."""
        return _of_matched(self.objects, self.matched)

    def take(self, rows: Tensor) -> HeadView:
        """The view of some of the RoIs, selected by a mask (R,) or by row indices."""

        def decoded(of: Decoded) -> Decoded:
            return Decoded(of.offsets[rows], of.boxes[rows])

        tensors = ("proposals", "scores", "probabilities", "matched", "ious", "offsets")
        taken = {name: getattr(self, name)[rows] for name in tensors}
        return replace(
            self, **taken, expectation=decoded(self.expectation), argmax=decoded(self.argmax)
        )

    def positive(self) -> HeadView:
        """Only the RoIs that overlap their object by at least POSITIVE_IOU."""
        return self.take(self.ious >= POSITIVE_IOU)

    def boxes_at(self, offsets: Tensor) -> Tensor:
        """Boxes (R, 4) at offsets (R, 4) from the proposals, clipped to the image."""
        proposals = self.coder.delta_coder.of_edges(self.proposals)
        return _boxes_at(self.coder, proposals, offsets, self.size)

    def stage_ranges(self, stage: int) -> Tensor:
        """Range of each edge that a stage (from 0) can reach, given the earlier stages.

        The stage can change the normalised offsets of centre and size by up to a_k each, relative
        to the expectations of the earlier stages.

        Returns:
            Outermost and innermost box, (R, 2, 4), not clipped. The innermost box has a negative
            size if an edge can be moved beyond the centre.
        """
        before = self.expectation.offsets[..., :stage]
        a = self.coder.bins.ranges[stage]
        coder = self.coder.delta_coder
        proposals = coder.of_edges(self.proposals)
        large_low, large_high, small_low, small_high = (
            coder.edges(
                coder.decode(
                    proposals, self.coder.compose(torch.cat([before, moved[:, :, None]], dim=2))
                )
            )
            for scale in (1, -1)
            for shift in (-1, 1)
            for moved in [(a * torch.tensor([shift, shift, scale, scale])).expand(len(self), 4)]
        )
        outer = torch.cat([large_low[:, :2], large_high[:, 2:]], dim=1)
        inner = torch.cat([small_high[:, :2], small_low[:, 2:]], dim=1)
        return torch.stack([outer, inner], dim=1)


@torch.inference_mode()
def look(trained: TrainedDetector, image_id: int) -> HeadView:
    """Run a trained detector on one image; return its head's predictions for the proposals.

    Raises:
        InsideError: the validation set has no such image.
    """
    features, sample, info = _features(trained, image_id)
    proposals = trained.model.rpn_head.predict(features, [sample], rescale=False)[0].bboxes
    class_logits, predictions = _predictions(trained, features, bbox2roi([proposals]))
    objects, labels = _objects(info, sample, trained.coder)
    return head_view(
        trained.head,
        classes=trained.classes,
        image_id=image_id,
        image_path=Path(sample.img_path),
        size=tuple(sample.img_shape[:2]),
        proposals=proposals.cpu(),
        scores=class_logits.float().softmax(-1).cpu(),
        predictions={mode: each.float().cpu() for mode, each in predictions.items()},
        objects=objects,
        object_labels=labels,
    )


def _predictions(
    trained: TrainedDetector, features: tuple[Tensor, ...], rois: Tensor
) -> tuple[Tensor, dict[DecodeMode, Tensor]]:
    """Class logits by expectation, and predictions of RoIs (R, 5) by each decoding.

    A later stage with separate RoI features gets a different box from each decoding, so its
    predictions differ too.
    """
    roi_head, coder = trained.model.roi_head, trained.coder
    if not trained.head.looks_again:
        extractor = _first(roi_head.bbox_roi_extractor)
        class_logits, both = trained.head(extractor(features[: extractor.num_inputs], rois))
        return class_logits, {"expectation": both, "argmax": both}
    predictions: dict[DecodeMode, Tensor] = {}
    asked = coder.decode_mode
    for mode in ("argmax", "expectation"):
        coder.decode_mode = mode
        outputs = roi_head._bbox_forward(features, rois)
        predictions[mode] = outputs["bbox_pred"]
    coder.decode_mode = asked
    return outputs["cls_score"], predictions


def head_view(
    head: OBCHead,
    *,
    classes: tuple[str, ...],
    image_id: int,
    image_path: Path,
    size: tuple[int, int],
    proposals: Tensor,
    scores: Tensor,
    predictions: dict[DecodeMode, Tensor],
    objects: Tensor,
    object_labels: Tensor,
) -> HeadView:
    """Compute a `HeadView` from a head's output, without running the network.

    Args:
        head: the head that computed the output.
        classes: see `HeadView`, as for the other arguments except `predictions`.
        image_id: of the image.
        image_path: the image file.
        size: height and width in pixels.
        proposals: in the coder's convention, (R, 4).
        scores: (R, C + 1).
        predictions: the head's bin logits by expectation and by argmax, (R, 4 * K * n) or
            (R, C * 4 * K * n).
        objects: in the coder's convention, (G, 4).
        object_labels: (G,).
    """
    coder = head.bbox_coder
    edges = coder.delta_coder.edges
    if not head.reg_class_agnostic:
        rows, classes = torch.arange(len(scores)), scores[:, :-1].argmax(-1)
        predictions = {
            mode: each.unflatten(1, (-1, coder.encode_size))[rows, classes]
            for mode, each in predictions.items()
        }
    logits = {mode: coder.stage_logits(each) for mode, each in predictions.items()}
    matched, ious = _match(edges(proposals), edges(objects))
    return HeadView(
        image_id=image_id,
        image_path=image_path,
        size=size,
        classes=classes,
        coder=coder,
        proposals=edges(proposals),
        scores=scores,
        probabilities=logits["expectation"].softmax(-1),
        expectation=_decoded(coder, proposals, logits["expectation"], size, "expectation"),
        argmax=_decoded(coder, proposals, logits["argmax"], size, "argmax"),
        objects=edges(objects),
        object_labels=object_labels,
        matched=matched,
        ious=ious,
        offsets=coder.delta_coder.encode(proposals, _of_matched(objects, matched)),
    )


@torch.inference_mode()
def target_offsets(trained: TrainedDetector, image_id: int) -> Tensor:
    """True offsets of the positive proposals of one image, (P, 4): the head's training targets.

    The proposals are made as in training (number and NMS), before sampling and without the ground
    truth boxes, which training adds and whose offsets are zero.

    Raises:
        InsideError: see `look`.
    """
    features, sample, info = _features(trained, image_id)
    rpn, proposal_cfg = trained.model.rpn_head, trained.model.train_cfg.rpn_proposal
    outputs = rpn(features)
    found = rpn.predict_by_feat(*outputs, batch_img_metas=[sample.metainfo], cfg=proposal_cfg)
    proposals = found[0].bboxes.cpu()
    objects, _ = _objects(info, sample, trained.coder)
    coder = trained.coder.delta_coder
    matched, ious = _match(coder.edges(proposals), coder.edges(objects))
    positive = ious >= POSITIVE_IOU
    return coder.encode(proposals[positive], objects[matched[positive]])


# --- what bins could do at best ----------------------------------------------------------------


def ideal_offsets(bins: OffsetBins, offsets: Tensor) -> Tensor:
    """Offsets (...) that bins predict for true offsets (...) if every stage finds the right bin.

    The difference from the true offsets is the quantisation error of the bins; outside (-a, a) it
    is the part that the range cuts off.
    """
    labels = bins.encode(offsets)
    stages = torch.arange(bins.num_stages)
    centers = bins.centers[stages, labels.clamp(min=0)]
    return centers.masked_fill(labels == IGNORED, 0.0).sum(-1)


def ideal_ious(view: HeadView, bins: OffsetBins) -> Tensor:
    """IoU (R,) of each proposal, moved by `ideal_offsets` of the given bins, with its object."""
    return box_ious(view.boxes_at(ideal_offsets(bins, view.offsets)), view.truth)


def box_ious(boxes: Tensor, truth: Tensor) -> Tensor:
    """IoU of each box (R, 4) with the box of the same row, (R,)."""
    return bbox_overlaps(boxes, truth, is_aligned=True)


# --- the parts ---------------------------------------------------------------------------------


def _features(trained: TrainedDetector, image_id: int) -> tuple[tuple[Tensor, ...], Any, Any]:
    """Feature maps of an image, its data sample, and its entry in the validation set."""
    if image_id not in trained.image_rows:
        ids = _shortened(list(trained.image_rows))
        raise InsideError(f"image {image_id} is not in the validation set; its ids are {ids}")
    row = trained.image_rows[image_id]
    batch = trained.model.data_preprocessor(pseudo_collate([trained.dataset[row]]))
    features = trained.model.extract_feat(batch["inputs"])
    return features, batch["data_samples"][0], trained.dataset.get_data_info(row)


def _shortened(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:5]))
    return f"{shown}, ..., {ids[-1]}" if len(ids) > 5 else shown


def _objects(info: dict[str, Any], sample: Any, coder: OffsetBinBBoxCoder) -> tuple[Tensor, Tensor]:
    """Boxes (G, 4) in the coder's convention, in pixels of the network's input; labels (G,)."""
    instances = [one for one in info["instances"] if not one["ignore_flag"]]
    boxes = torch.tensor([one["bbox"] for one in instances], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([one["bbox_label"] for one in instances], dtype=torch.long)
    width_factor, height_factor = sample.scale_factor
    boxes = coder.delta_coder.of_edges(boxes)
    return boxes * boxes.new_tensor([width_factor, height_factor] * 2), labels


def _match(proposals: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the object with the largest IoU (R,), -1 for none, and that IoU (R,)."""
    if len(objects) == 0:
        none = torch.full((len(proposals),), -1)
        return none, proposals.new_zeros(len(proposals))
    ious, matched = bbox_overlaps(proposals, objects).max(1)
    return matched.masked_fill(ious == 0, -1), ious


def _of_matched(objects: Tensor, matched: Tensor) -> Tensor:
    """Box of each RoI's object, (R, 4); NaN for a RoI without object."""
    boxes = objects.new_full((len(matched), 4), float("nan"))
    boxes[matched >= 0] = objects[matched[matched >= 0]]
    return boxes


def _decoded(
    coder: OffsetBinBBoxCoder,
    proposals: Tensor,
    logits: Tensor,
    size: tuple[int, int],
    mode: DecodeMode,
) -> Decoded:
    offsets = coder.bins.decode_stages(logits, mode)
    composed = [coder.compose(offsets[..., : stage + 1]) for stage in range(offsets.shape[-1])]
    boxes = [_boxes_at(coder, proposals, after, size) for after in composed]
    return Decoded(offsets, torch.stack(boxes, dim=1))


def _boxes_at(
    coder: OffsetBinBBoxCoder, proposals: Tensor, offsets: Tensor, size: tuple[int, int]
) -> Tensor:
    """Edges of the boxes of `OffsetBinBBoxCoder.decode`, from offsets instead of logits."""
    boxes = coder.delta_coder.decode(
        proposals,
        offsets,
        max_shape=size if coder.clip_border else None,
        wh_ratio_clip=coder.wh_ratio_clip,
    )
    return coder.delta_coder.edges(boxes)


def _first(part: Any) -> Any:
    """The part itself, or the first in a cascade, which has a list of parts."""
    return part[0] if isinstance(part, nn.ModuleList) else part
