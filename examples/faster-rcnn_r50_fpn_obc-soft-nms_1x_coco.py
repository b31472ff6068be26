"""Soft-NMS, which works on decoded boxes; no new training."""

_base_ = "faster-rcnn_r50_fpn_obc_1x_coco.py"
model = dict(test_cfg=dict(rcnn=dict(nms=dict(type="soft_nms", min_score=0.05))))
