"""Test-time augmentation: three sizes, each also mirrored; `tools/test.py --tta`."""

_base_ = "faster-rcnn_r50_fpn_obc_1x_coco.py"
tta_model = dict(
    type="DetTTAModel", tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)
)
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale=scale, keep_ratio=True)
                for scale in ((1333, 640), (1333, 800), (1333, 960))
            ],
            [dict(type="RandomFlip", prob=prob) for prob in (0.0, 1.0)],
            [
                dict(
                    type="PackDetInputs",
                    meta_keys=(
                        "img_id",
                        "img_path",
                        "ori_shape",
                        "img_shape",
                        "scale_factor",
                        "flip",
                        "flip_direction",
                    ),
                )
            ],
        ],
    ),
]
