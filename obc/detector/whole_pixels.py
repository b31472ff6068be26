"""Boxes in whole pixels, the convention of MMDetection 1.x, and the classes that follow it.

A box (x1, y1, x2, y2) in whole pixels names the first and the last pixel that it covers, so it is
x2 - x1 + 1 pixels wide. Everywhere else in this suite, as in MMDetection since 2.0, a box names its
edges and is x2 - x1 wide. Under protocol `paper_v1` boxes are in whole pixels from the loading of
annotations (`WholePixelAnnotations`) to the writing of detections (`obc.evaluation.evaluate`). In
between, the network's proposals, targets and predictions are all in whole pixels. Index files, the
ground truth of the evaluation and `detections.*.npz` contain edges under both protocols, and
`obc.evaluation.head_view` converts the network's boxes to edges.

`obc.config.protocols` selects these classes; docs/protocols.md lists what each of them changes.

Shape shorthand: N boxes or RoIs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.datasets.transforms import LoadAnnotations, RandomFlip, Resize
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.assigners import BboxOverlaps2D
from mmdet.registry import MODELS, TASK_UTILS, TRANSFORMS
from mmdet.structures.bbox import BaseBoxes, get_box_tensor
from torch import Tensor, nn

from obc.detector.roi_align import SeparableRoIExtractor
from obc.head.box_deltas import pixel_edges
from obc.head.coders import DecodedDeltaCoder

# --- the model -----------------------------------------------------------------------------------


@TASK_UTILS.register_module()
class WholePixelDeltaCoder(DecodedDeltaCoder):
    """Four deltas between boxes in whole pixels; ``decode`` is the inverse of ``encode``.

    MMDetection's ``LegacyDeltaXYWHBBoxCoder`` also takes widths one pixel larger, but does not
    subtract the pixel when it decodes: its boxes are half a pixel too large on each side.

    Args:
        **kwargs: the arguments of ``DecodedDeltaCoder`` except ``legacy``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(legacy=True, **kwargs)

    @property
    def encode_size(self) -> int:
        """4: a prediction is the deltas themselves."""
        return 4

    def deltas(self, predictions: Tensor) -> Tensor:
        """Normalised deltas of predictions: unchanged."""
        return predictions

    def decode(
        self,
        bboxes: Tensor | BaseBoxes,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
    ) -> Tensor | BaseBoxes:
        """Boxes (N, 4), or (N, 4 * C) of predictions (N, 4 * C) for C classes.

        MMDetection's box head decodes all classes at once if its loss is on boxes. The arguments
        are those of the base class.
        """
        if pred_bboxes.shape[-1] == self.encode_size:
            return super().decode(bboxes, pred_bboxes, max_shape)
        boxes, by_class = get_box_tensor(bboxes)[:, None], pred_bboxes.unflatten(-1, (-1, 4))
        return get_box_tensor(super().decode(boxes, by_class, max_shape)).flatten(1)


@TASK_UTILS.register_module()
class WholePixelOverlaps2D(BboxOverlaps2D):
    """``BboxOverlaps2D`` of boxes in whole pixels, for assigners."""

    def __call__(
        self,
        bboxes1: Tensor | BaseBoxes,
        bboxes2: Tensor | BaseBoxes,
        mode: str = "iou",
        is_aligned: bool = False,
    ) -> Tensor:
        """Overlaps (N, M), or (N,) if aligned; the arguments are those of the base class."""
        first, second = (
            pixel_edges(get_box_tensor(boxes)[..., :4]) for boxes in (bboxes1, bboxes2)
        )
        return super().__call__(first, second, mode, is_aligned)


class _FromPixelCentres(nn.Module):
    """RoIAlign of 1.x for one level: feature pixel i lies at i * stride, small RoIs stay small.

    Today's ``aligned=True`` puts feature pixel i at (i + 0.5) * stride and, like 1.x and unlike
    ``aligned=False``, does not enlarge RoIs to one feature pixel. So it gives the result of 1.x if
    the RoIs are moved by half a stride.

    Args:
        aligned_layer: RoIAlign with ``aligned=True``.
        stride: image pixels per feature pixel.
    """

    def __init__(self, aligned_layer: nn.Module, stride: int) -> None:
        super().__init__()
        self.aligned_layer = aligned_layer
        self.shift = stride / 2

    @property
    def output_size(self) -> tuple[int, int]:
        """Rows and columns of the pooled features."""
        return self.aligned_layer.output_size

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, H, W) of RoIs (N, 5), image index and edges, to (N, C, P, P)."""
        return self.aligned_layer(features, torch.cat([rois[:, :1], rois[:, 1:] + self.shift], 1))


class _WholePixelRoIs(SingleRoIExtractor):
    """Converts an extractor's RoIs from whole pixels to edges before it chooses their levels."""

    def build_roi_layers(
        self, layer_cfg: dict[str, Any], featmap_strides: list[int]
    ) -> nn.ModuleList:
        """One layer per level; ``aligned`` of ``layer_cfg`` must be False.

        Raises:
            ValueError: ``aligned`` is not False; 1.x had no such option.
        """
        aligned = layer_cfg.get("aligned", True)
        if aligned is not False:
            raise ValueError(
                f"roi_layer.aligned={aligned}: {type(self).__name__} pools as MMDetection 1.x did; "
                "allowed is False"
            )
        layers = super().build_roi_layers({**layer_cfg, "aligned": True}, featmap_strides)
        return nn.ModuleList(
            _FromPixelCentres(layer, stride)
            for layer, stride in zip(layers, featmap_strides, strict=True)
        )

    def forward(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Features (N, C, P, P) of RoIs (N, 5) whose boxes are in whole pixels."""
        # Rounding may give a very thin box a negative size.
        low, high = pixel_edges(rois[:, 1:]).chunk(2, dim=1)
        rois = torch.cat([rois[:, :1], low, high.maximum(low)], 1)
        return super().forward(feats, rois, roi_scale_factor)


@MODELS.register_module()
class WholePixelRoIExtractor(_WholePixelRoIs):
    """``SingleRoIExtractor`` as in MMDetection 1.x, of RoIs in whole pixels."""


@MODELS.register_module()
class WholePixelSeparableRoIExtractor(_WholePixelRoIs, SeparableRoIExtractor):
    """``SeparableRoIExtractor`` of RoIs in whole pixels."""


# --- the data ------------------------------------------------------------------------------------


@TRANSFORMS.register_module()
class WholePixelAnnotations(LoadAnnotations):
    """``LoadAnnotations`` whose boxes end at their last pixel, not at the right and bottom edge."""

    def _load_bboxes(self, results: dict[str, Any]) -> None:
        super()._load_bboxes(results)
        results["gt_bboxes"].tensor[:, 2:] -= 1


@TRANSFORMS.register_module()
class WholePixelResize(Resize):
    """``Resize`` with one factor for both axes, which clips boxes to the last pixel.

    Today's ``Resize`` computes a factor per axis from the resized image, whose sides are rounded to
    whole pixels.
    """

    def _resize_img(self, results: dict[str, Any]) -> None:
        sides = results["img"].shape[:2]
        super()._resize_img(results)
        if self.keep_ratio:
            long, short = max(results["scale"]), min(results["scale"])
            factor = min(long / max(sides), short / min(sides))
            results["scale_factor"] = (factor, factor)

    def _resize_bboxes(self, results: dict[str, Any]) -> None:
        if results.get("gt_bboxes") is None:
            return
        results["gt_bboxes"].rescale_(results["scale_factor"])
        if self.clip_object_border:
            height, width = results["img_shape"]
            results["gt_bboxes"].clip_((height - 1, width - 1))


@TRANSFORMS.register_module()
class WholePixelFlip(RandomFlip):
    """``RandomFlip`` that maps pixel x to pixel width - 1 - x, for boxes too."""

    def _flip(self, results: dict[str, Any]) -> None:
        super()._flip(results)
        if results.get("gt_bboxes") is not None:
            horizontal = results["flip_direction"] in ("horizontal", "diagonal")
            vertical = results["flip_direction"] in ("vertical", "diagonal")
            results["gt_bboxes"].translate_((-float(horizontal), -float(vertical)))
