"""The settings of a data set: drawn by the project, or a folder of images in VOC or COCO layout.

Every model forbids unknown keys and is immutable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from obc.io.typed_yaml import Strict

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
Layout = Literal["voc", "coco"]
# `init`: the data of the shared starting weights; no table is about it.
DatasetName = Literal["voc", "coco", "init"]
# Treatment of objects marked difficult. gt: like other objects; train_without: not trained on, but
# to be found in evaluation; ignore: neither trained on nor to be found.
Difficult = Literal["gt", "train_without", "ignore"]
Contrast = Annotated[float, Field(gt=0, le=255)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class ShapesData(Strict):
    """The embedded data set: scenes that the project draws itself.

    Raise `version`, which is part of run ids, when the same settings draw other scenes.
    """

    kind: Literal["shapes"]
    layout: Layout = Field(description="what the files look like")
    version: Literal[1] = Field(1, description="of the scenes")
    seed: int = Field(ge=0, description="of the scenes")
    image_size: int = Field(ge=32, le=1024, description="pixels, square")
    train_images: PositiveInt = Field(description="how many are drawn")
    val_images: PositiveInt = Field(description="how many are drawn")
    num_classes: int = Field(ge=2, le=12, description="kinds of shapes")
    objects: tuple[int, int] = Field(description="fewest and most objects in an image")
    difficult: Difficult = Field("gt", description="as of config.yaml, which overrides it")
    object_size: tuple[Fraction, Fraction] = Field(
        description="smallest and largest object, longer side as a fraction of the image"
    )
    contrast: tuple[Contrast, Contrast] = Field(
        (45.0, 130.0), description="least and most distance of a fill to the background, 8-bit RGB"
    )

    @model_validator(mode="after")
    def _ordered(self) -> ShapesData:
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise ValueError(f"objects {self.objects}: allowed is 1 <= fewest <= most")
        if self.object_size[0] > self.object_size[1]:
            raise ValueError(f"object_size {self.object_size}: allowed is smallest <= largest")
        if self.contrast[0] > self.contrast[1]:
            raise ValueError(f"contrast {self.contrast}: allowed is least <= most")
        return self

    @property
    def drawing(self) -> dict[str, Any]:
        """The settings that decide the scenes; the treatment of difficult objects does not."""
        return self.model_dump(mode="json", exclude={"difficult"})


class _Folder(Strict):
    """The settings of a folder of real images that both layouts have."""

    root: Path = Field(description="the folder; read in place, never changed")
    max_train_images: PositiveInt | None = Field(None, description="take the first; null: all")
    max_val_images: PositiveInt | None = Field(None, description="take the first; null: all")
    expected_train_images: PositiveInt | None = Field(None, description="as published; checked")
    expected_val_images: PositiveInt | None = Field(None, description="as published; checked")
    allow_shared_images: bool = Field(False, description="as of config.yaml, which overrides it")

    @property
    def has_published_counts(self) -> bool:
        """Whether both published numbers of images are known; checked, they identify the data."""
        return self.expected_train_images is not None and self.expected_val_images is not None


class VocData(_Folder):
    """A folder in PASCAL VOC layout; splits are `train` or, in a devkit, `VOC2007/trainval`."""

    kind: Literal["voc"]
    train: tuple[str, ...] = Field(("train",), min_length=1, description="splits")
    val: tuple[str, ...] = Field(("val",), min_length=1, description="splits")
    classes: tuple[str, ...] = Field(
        VOC_CLASSES, min_length=1, description="class names, in the order of their labels"
    )
    difficult: Difficult = Field("gt", description="as of config.yaml, which overrides it")

    @model_validator(mode="after")
    def _distinct_classes(self) -> VocData:
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise ValueError(f"classes names {', '.join(twice)} more than once")
        return self


class CocoData(_Folder):
    """A folder in COCO layout: `annotations/instances_<split>.json` and `<split>/` images."""

    kind: Literal["coco"]
    train: str = Field("train2017", description="a split")
    val: str = Field("val2017", description="a split")
    difficult: Difficult | None = Field(
        None,
        description="objects marked `ignore`, as of config.yaml; null: not trained on and to be "
        "found, as in MMDetection and pycocotools",
    )


Data = Annotated[ShapesData | VocData | CocoData, Field(discriminator="kind")]


def data_identity(data: Data, fingerprint: str | None) -> dict[str, Any]:
    """The identity of a data set, independent of its location: its settings without the folder.

    Settings at their defaults are left out, so that a setting added later changes no identity if
    its default keeps the old behaviour.

    Args:
        fingerprint: quick digest of a user's own folder; None for the embedded data and for
            published data sets, which their counts identify (so that a plan needs no download).
    """
    settings = data.model_dump(mode="json", exclude={"root"}, exclude_defaults=True)
    return {**settings, "fingerprint": fingerprint} if fingerprint else settings
