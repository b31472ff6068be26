"""Cascade R-CNN, one stage of bins a head (section 4.2); a list of heads is replaced as a whole."""

_base_ = "mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py"
custom_imports = dict(imports=["obc"])
bins = dict(max_offset=3.0, num_bins=20, num_stages=1)
model = dict(
    roi_head=dict(
        bbox_head=[
            dict(
                head,
                type="OBCHead",
                bbox_coder=dict(head.bbox_coder, type="OffsetBinBBoxCoder", bins=bins),
                loss_bbox=dict(type="CrossEntropyLoss", loss_weight=1.0),
            )
            for head in _base_.model.roi_head.bbox_head
        ]
    )
)
