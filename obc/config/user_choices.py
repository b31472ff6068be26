"""The options of one call (config.yaml)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from obc.config.plugins import import_plugins
from obc.config.protocols import Protocol
from obc.config.scale import Seed, check_seeds
from obc.datasets.settings import Difficult
from obc.io.typed_yaml import Strict

Tracking = Literal["tensorboard", "wandb", "mlflow"]
# Keys whose list may be given as a single value.
ONE_OR_LIST = ("plugins", "voc_train", "voc_val", "voc_init", "voc_classes")


class Examples(Strict):
    """The two rows of a table that Figure 6 compares on single images, by their keys."""

    table: str = Field("table1", description="table of the two rows")
    baseline: str = Field("regression", description="key of the row on the left")
    method: str = Field("full", description="key of the row on the right")
    images: int = Field(
        4,
        ge=1,
        le=20,
        description="number of images of each kind (both rows find every object, or at least one "
        "row misses an object); gains and losses are shown in the ratio in which they occur",
    )
    min_score: float = Field(
        0.3, ge=0, lt=1, description="detections with a lower score are ignored"
    )


class DetailRows(Strict):
    """The rows of `detail_table` whose heads are inspected, by their keys."""

    one_stage: str = Field("bins", description="key of a row with one stage of bins")
    two_stages: str = Field("full", description="key of a row with two stages of bins")


class SuiteConfig(Strict):
    """config/config.yaml and `--config key=value`: the options of one call."""

    scale: str = Field(
        "quick", description="name of a scale: a file in config/scales, without .yaml"
    )
    seeds: tuple[Seed, ...] | dict[str, tuple[Seed, ...]] | None = Field(
        None,
        description="seeds of the trainings; every run is trained once for each seed; a list, "
        "e.g. [0,1,2], or lists by table, e.g. {default: [0], table1: [0,1,2]}; a run that "
        "several tables need gets the seeds of all; null: the scale's",
    )
    starting_weights: Literal["shipped", "train"] = Field(
        "shipped",
        description="shipped: use the starting weights that come with the suite "
        "(config/starting_weights) where they fit the scale, instead of training them; train: "
        "train all starting weights",
    )
    results: str = Field(
        "results", description="folder for all results; each scale has its own folder in it"
    )
    label: str | None = Field(
        None,
        pattern=r"^[\w-][\w.-]*$",
        description="name for results of your own data or of a changed scale, which go to "
        "results/<scale>-<label>; null: the name of your data's folder, if any",
    )
    protocol: Protocol | None = Field(
        None,
        description="training protocol, see docs/protocols.md; with another protocol than the "
        "scale's, results go to results/<scale>-<protocol>; null: the scale's",
    )
    scale_lr: bool = Field(
        False,
        description="multiply lr by batch_size / 4 (4 is the paper's batch size); only at a "
        "scale with papers_setting",
    )
    change: dict[str, Any] = Field(
        {},
        description="new values for keys of the scale, by dotted key, for an experiment; needs a "
        "label",
    )
    gpus_per_run: int | None = Field(
        None,
        ge=0,
        description="GPUs that train one run together, each on its share of every batch; 0: the "
        "CPU; null: the scale's runtime.gpus; never part of a run id",
    )
    tracking: Tracking | None = Field(
        None,
        description="tracker that also gets the losses of every training: TensorBoard, Weights & "
        "Biases or MLflow, see docs/running.md; null: none; never part of a run id",
    )
    plugins: tuple[str, ...] = Field(
        (),
        description="modules of yours, in the project's folder or on Python's path, to import "
        "before tables are read, see docs/extending.md; a name or a list; never part of a run id",
    )
    show_images: bool = Field(
        True,
        description="true: draw test images in figures and on the page; false: draw only their "
        "boxes, on grey, so that you can share results of images that you may not share",
    )
    examples: Examples = Field(Examples(), description="rows and images of Figure 6, see below")
    detail_table: str = Field(
        "table1",
        description="table whose rows are drawn as training, precision-recall and AP curves and "
        "diagnosed",
    )
    detail_rows: DetailRows = Field(
        DetailRows(),
        description="rows of detail_table for the figures of a head's output, see below",
    )
    difficult: Difficult | None = Field(
        None,
        description="use of objects that VOC marks difficult; gt: like other objects; "
        "train_without: not trained on, but required in the evaluation; ignore: not trained on "
        "and not required, and finding one is no mistake; null: the scale's",
    )
    voc_root: Path | None = Field(
        None,
        description="path of a VOC year folder (JPEGImages, Annotations, ImageSets) or a "
        "VOCdevkit; it counts as your own data, except at a scale with published counts (paper) "
        "if you name no splits and no classes; null: the scale's data",
    )
    voc_train: tuple[str, ...] | None = Field(
        None,
        description="training splits, in a devkit e.g. VOC2007/trainval; a name or a list; null: "
        "the scale's, or train where the scale generates its VOC data",
    )
    voc_val: tuple[str, ...] | None = Field(
        None, description="validation splits, as voc_train; null: the scale's, or val"
    )
    voc_classes: tuple[str, ...] | None = Field(
        None, description="class names of your own folder; null: the scale's, or VOC's 20"
    )
    voc_init: tuple[str, ...] | None = Field(
        None,
        description="splits of the VOC data that the shared starting weights are trained on, at "
        "a scale with an `initialisation`; images that are also training or validation images of "
        "a table, by content, are refused; null: the scale's data.init, which is not compared "
        "with your images",
    )
    coco_root: Path | None = Field(
        None,
        description="path of a folder with annotations/instances_<split>.json and <split>/; it "
        "counts as your own data, except at a scale with published counts (paper) if you name no "
        "splits; null: the scale's data",
    )
    coco_train: str | None = Field(
        None, description="training split; null: the scale's, or train2017"
    )
    coco_val: str | None = Field(
        None, description="validation split; null: the scale's, or val2017"
    )
    coco_init: str | None = Field(
        None, description="split of the COCO data for the starting weights; otherwise as voc_init"
    )
    allow_shared_images: bool = Field(
        False,
        description="allow images that are in both training and validation of your own folder; "
        "AP is then too high, and a note under every table says so",
    )

    @field_validator(*ONE_OR_LIST, mode="before")
    @classmethod
    def _one_stands_for_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _no_number_of_seeds(cls, value: Any) -> Any:
        """Refuse a lone number: it could be a seed or, as in `make SEEDS=3`, a number of seeds."""
        if isinstance(value, int):
            several = ",".join(map(str, range(value))) if 0 < value <= 9 else "0,1,2"
            count = len(several.split(","))
            raise ValueError(
                f"seeds={value} could be one seed or a number of seeds: write seeds=[{value}] for "
                f"the training with seed {value}, seeds=[{several}] for {count} "
                f"training{'s' if count > 1 else ''} of every run"
            )
        return value

    @field_validator("plugins")
    @classmethod
    def _imported(cls, plugins: tuple[str, ...]) -> tuple[str, ...]:
        """Import plugins here, because a stored plan is read and validated without `load_plan`."""
        import_plugins(plugins)
        return plugins

    @field_validator("change")
    @classmethod
    def _from_the_command_line(cls, change: dict[str, Any]) -> dict[str, Any]:
        """Parse texts: Snakemake passes every value of its command line as text, even `null`."""
        return {key: _from_text(key, value) for key, value in change.items()}

    @field_validator("results")
    @classmethod
    def _of_plain_names(cls, results: str) -> str:
        """Refuse special characters: Snakemake patterns and cluster commands contain the folder."""
        wrong = sorted(set(re.findall(r"[^\w./+@,=%-]", results)))
        if wrong or results.startswith("-") or not results:
            raise ValueError(
                f"results is {results!r}; allowed: letters, digits and . / + @ , = % _ - , with no "
                f"- at the start{f'; it has {wrong}' if wrong else ''}"
            )
        return results

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: Any) -> Any:
        if seeds is not None:
            check_seeds(seeds if isinstance(seeds, dict) else {"default": seeds})
        return seeds

    @model_validator(mode="after")
    def _one_source_of_starting_weights(self) -> SuiteConfig:
        if self.voc_init is not None and self.coco_init is not None:
            raise ValueError("voc_init and coco_init are both given; allowed is one of them")
        return self

    @model_validator(mode="after")
    def _changes_have_a_label(self) -> SuiteConfig:
        if self.change and self.label is None:
            raise ValueError(
                f"change of {', '.join(self.change)} without a label; results of a changed scale "
                "need a folder of their own, e.g. label=pilot"
            )
        return self


def _from_text(key: str, value: Any) -> Any:
    """Parse a text, or the texts in a list or mapping, as YAML; `key` is for messages."""
    if isinstance(value, str):
        try:
            return yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-13-01
            reason = getattr(error, "problem", None) or error
            raise ValueError(
                f"{key}: {value!r} is not valid YAML ({reason}); allowed: a number, a text, true, "
                "false, null, or a list or mapping of these, e.g. [1, 2]"
            ) from None
    if isinstance(value, list):
        return [_from_text(key, part) for part in value]
    if isinstance(value, dict):
        return {name: _from_text(f"{key}.{name}", part) for name, part in value.items()}
    return value
