"""Data sets: drawn scenes, VOC and COCO folders, and the index that every run reads."""
