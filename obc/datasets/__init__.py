"""The data that runs train and are evaluated on: drawn by the project, or VOC or COCO in a folder.

`shapes` draws the embedded sets; `published` says what is published where, and `acquire` gets it
with `download` and `unpack`. `voc` and `coco` read and check the two layouts on disk; `manifest`
turns any of them into one pair of COCO-format index files with an identity.
"""
