"""Cost of a detector's box heads: parameters, and operations for one RoI."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@torch.inference_mode()
def head_cost(model: nn.Module) -> dict[str, float]:
    """Cost of the box heads of a two-stage detector, summed over the stages of a cascade.

    Both numbers include classification: heads share layers between classification and
    localisation, each in its own way.

    Returns:
        `parameters`, and `mflop_per_roi`: 10^6 multiplications and additions of the convolutions
        and matrix products of one forward pass, counted by torch.
    """
    heads = model.roi_head.bbox_head
    heads = list(heads) if isinstance(heads, nn.ModuleList) else [heads]
    extractors = model.roi_head.bbox_roi_extractor
    extractors = list(extractors) if isinstance(extractors, nn.ModuleList) else [extractors]
    with FlopCounterMode(display=False) as counter:
        for head, extractor in zip(heads, extractors, strict=True):
            side = extractor.roi_layers[0].output_size
            device = next(head.parameters()).device
            features = torch.zeros(1, extractor.out_channels, *side, device=device)
            head(features)
            for stage in range(1, 1 + len(getattr(head, "later_stages", ()))):
                head.stage_predictions(stage, features)
    return {
        "parameters": sum(p.numel() for head in heads for p in head.parameters()),
        "mflop_per_roi": counter.get_total_flops() / 1e6,
    }
