"""One set of bins for each class."""

_base_ = "faster-rcnn_r50_fpn_obc_1x_coco.py"
model = dict(roi_head=dict(bbox_head=dict(reg_class_agnostic=False)))
