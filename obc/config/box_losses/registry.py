"""The base of every box loss, and the set of losses that a row can name under `box:`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import Field, PlainValidator, PositiveFloat, SerializeAsAny, TypeAdapter

from obc.config.box_losses.layers import HeadShape, Layer, linear
from obc.io.typed_yaml import Strict

Decode = Literal["expectation", "argmax", "argmax_expectation", "first_stage", "regression"]


class BoxLoss(Strict):
    """A box loss: its fields are the settings; its methods derive the head, cost and decodings.

    A subclass narrows `loss` to the names that a row may write, `loss: Literal["l1"]`.
    """

    default_decode: ClassVar[Decode] = "regression"
    loss: str

    @abstractmethod
    def head(self, deltas: dict[str, Any], shape: HeadShape) -> dict[str, Any]:
        """The settings that the box loss changes in MMDetection's box head.

        Args:
            deltas: arguments of the box coder: target_means, target_stds, legacy.
            shape: the detector around the head.

        Returns:
            Keys of the head's config. With `_base_`, the path of a config that MMDetection ships,
            the keys change the box head of that config instead of the detector's own.
        """

    @abstractmethod
    def layers(self, shape: HeadShape, rois: int) -> Iterator[Layer]:
        """The layers of one box head after its first shared layer, without the classification.

        Args:
            shape: the detector around the head.
            rois: number of RoIs of an image.
        """

    @property
    def slug(self) -> str:
        """The name of the method inside run ids; different settings may share a name."""
        return self.loss.replace("_", "")

    @property
    def decodes(self) -> tuple[Decode, ...]:
        """The decodings that a trained run can be evaluated with, the default first."""
        return (self.default_decode,)

    @property
    def roi_head(self) -> str | None:
        """The type of the RoI head; None: the detector's own."""
        return None

    def check_detector(self, cascade: bool, own_stds: bool) -> None:
        """Raise ValueError where the box loss does not fit a detector.

        Args:
            cascade: whether the detector is a Cascade R-CNN.
            own_stds: whether the row sets `target_stds`.
        """


class Regression(BoxLoss):
    """A loss on regressed offsets or on the decoded box; a subclass names the loss."""

    loss_weight: PositiveFloat = Field(1.0, description="of the box loss")
    reg_class_agnostic: bool | None = Field(
        None,
        description="one box for all classes; null: as MMDetection, which has one a class in "
        "Faster and one for all in Cascade R-CNN",
    )
    numbers_per_box: ClassVar[int] = 4

    @abstractmethod
    def loss_config(self) -> dict[str, Any]:
        """MMDetection's config of the loss: its `type` and arguments."""

    def head(self, deltas: dict[str, Any], shape: HeadShape) -> dict[str, Any]:
        """The detector's own head with this loss."""
        head: dict[str, Any] = dict(loss_bbox=self.loss_config())
        if self.reg_class_agnostic is not None:
            head["reg_class_agnostic"] = self.reg_class_agnostic
        return head

    def layers(self, shape: HeadShape, rois: int) -> Iterator[Layer]:
        """The second shared layer, and the layer that predicts `numbers_per_box` numbers a box."""
        yield linear(shape.width, shape.width, rois)
        # MMDetection's Faster R-CNN regresses by class, its Cascade R-CNN does not.
        agnostic = shape.cascade if self.reg_class_agnostic is None else self.reg_class_agnostic
        boxes = 1 if agnostic else shape.num_classes
        yield linear(shape.width, self.numbers_per_box * boxes, rois)


BOX_LOSSES: dict[str, type[BoxLoss]] = {}
Model = TypeVar("Model", bound=BoxLoss)


def register_box(model: type[Model]) -> type[Model]:
    """Register a box loss, so that rows can name it: a class decorator.

    Raises:
        ValueError: `loss` is not a Literal of names, or another class already has one of the names.
    """
    names = get_args(model.model_fields["loss"].annotation)
    if not names:
        raise ValueError(
            f"{model.__module__}.{model.__name__}: loss is not a Literal of names, "
            'allowed: e.g. loss: Literal["l1"]'
        )
    for name in names:
        other = BOX_LOSSES.get(name)
        if other is not None and _place(other) != _place(model):
            raise ValueError(
                f"{'.'.join(_place(model))}: loss {name!r} is that of {'.'.join(_place(other))}, "
                f"allowed: another name than {', '.join(BOX_LOSSES)}"
            )
        BOX_LOSSES[name] = model
    return model


def _place(model: type[BoxLoss]) -> tuple[str, str]:
    return model.__module__, model.__qualname__


@lru_cache
def _adapter(models: tuple[type[BoxLoss], ...]) -> TypeAdapter[BoxLoss]:
    # Type checkers reject a union that is built at run time.
    return TypeAdapter(Annotated[reduce(or_, models), Field(discriminator="loss")])  # type: ignore[arg-type]


def _validated(value: Any) -> BoxLoss:
    return _adapter(tuple(dict.fromkeys(BOX_LOSSES.values()))).validate_python(value)


# Losses are looked up at validation, because plugins register theirs after RunSpec is defined.
Box = Annotated[SerializeAsAny[BoxLoss], PlainValidator(_validated, json_schema_input_type=BoxLoss)]
