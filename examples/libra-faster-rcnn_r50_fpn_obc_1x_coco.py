"""Libra R-CNN: another neck and sampler, which stay, and box loss, which the bins replace."""

_base_ = "mmdet::libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py"
custom_imports = dict(imports=["obc"])
model = dict(
    roi_head=dict(
        type="OBCRoIHead",
        bbox_head=dict(
            type="OBCHead",
            reg_class_agnostic=True,
            bbox_coder=dict(
                type="OffsetBinBBoxCoder", bins=dict(max_offset=3.0, num_bins=20, num_stages=2)
            ),
            loss_bbox=dict(_delete_=True, type="CrossEntropyLoss", loss_weight=1.0),
        ),
    )
)
