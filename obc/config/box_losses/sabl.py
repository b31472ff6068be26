"""Side-aware boundary localisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from obc.config.box_losses.layers import ROI_SIDE, HeadShape, Layer, convolution, linear
from obc.config.box_losses.registry import BoxLoss, register_box


@register_box
class SideAware(BoxLoss):
    """Side-aware boundary localisation: MMDetection's SABLHead with the settings of its config."""

    loss: Literal["sabl"]

    def check_detector(self, cascade: bool, own_stds: bool) -> None:
        """Raise ValueError unless the detector is Faster R-CNN, without `target_stds`."""
        if cascade or own_stds:
            raise ValueError(
                "box loss sabl is allowed with faster_rcnn only, and without target_stds: "
                "it learns buckets of the sides, not normalised offsets"
            )

    def head(self, deltas: dict[str, Any], shape: HeadShape) -> dict[str, Any]:
        """The head of MMDetection's own SABL config, at the detector's widths."""
        return dict(
            _base_="sabl/sabl-faster-rcnn_r50_fpn_1x_coco.py",
            num_classes=shape.num_classes,
            cls_in_channels=shape.channels,
            reg_in_channels=shape.channels,
            cls_out_channels=shape.width,
            reg_offset_out_channels=shape.channels,
            reg_cls_out_channels=shape.channels,
        )

    def layers(self, shape: HeadShape, rois: int) -> Iterator[Layer]:
        """Convolutions, attention, upsampling by 2 along each axis; no second shared layer."""
        channels, side = shape.channels, (ROI_SIDE * rois, ROI_SIDE)
        for _ in range(2):
            yield convolution("box", channels, channels, 3, side, bias=True)
        for _ in ("x", "y"):
            yield convolution("box", channels, 1, 1, side, bias=True)
            for taps in (3, 2):  # after the attention, and transposed for upsampling
                weights = channels * channels * taps
                yield Layer("box", 2 * weights * ROI_SIDE * rois, weights + channels)
        for _ in ("bucket", "offset"):
            yield linear(channels, 1, 2 * 2 * ROI_SIDE * rois)
