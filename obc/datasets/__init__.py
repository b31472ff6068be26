"""The data that runs train and are evaluated on: drawn by the project, or the user's VOC or COCO.

`shapes` draws the embedded sets, `voc` and `coco` read and check the two layouts on disk, and
`manifest` turns any of them into one pair of COCO-format index files with an identity.
"""
