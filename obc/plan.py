"""From the files in config/ to a plan: which runs, at which scale, for which tables.

`load_plan` reads and validates everything before any job starts; whatever is wrong becomes one
`ConfigError` that names the file, the key and what is allowed. The plan is then frozen into
`results/<scale>/plan.json`, which every job reads, so that editing a YAML file while the DAG
runs changes nothing under its feet.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from obc.atomic import write_text
from obc.datasets.manifest import fingerprint
from obc.experiment import (
    CocoData,
    Data,
    DatasetName,
    Difficult,
    FigureSpec,
    Protocol,
    ResolvedRun,
    Row,
    RunSpec,
    Scale,
    ShapesData,
    Strict,
    TableSpec,
    VocData,
    data_identity,
    resolve,
)
from obc.spec_errors import ConfigError, explain
from obc.table_file import read_table, read_yaml, validate


class SuiteConfig(Strict):
    """config/config.yaml and `--config key=value`: what a user chooses for one call."""

    scale: str = Field("smoke", description="a file in config/scales")
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    results: str = Field("results", description="folder under which each scale has its own")
    label: str | None = Field(None, description="name of one's own data in results/<scale>-<label>")
    protocol: Protocol | None = Field(None, description="null: the scale's")
    difficult: Difficult = "gt"
    voc_root: Path | None = None
    voc_train: tuple[str, ...] | None = None
    voc_val: tuple[str, ...] | None = None
    voc_classes: tuple[str, ...] | None = None
    coco_root: Path | None = None
    coco_train: str | None = None
    coco_val: str | None = None


class PlannedRun(Strict):
    """A distinct training of the plan and the decodings that its tables ask for."""

    run_id: str
    resolved: ResolvedRun
    decodes: tuple[str, ...]
    tables: tuple[str, ...]


class Plan(Strict):
    """Everything that a call of the suite will do, resolved; see `load_plan`."""

    config: SuiteConfig
    scale: Scale
    results: Path
    tables: dict[str, FigureSpec | TableSpec]
    runs: dict[str, PlannedRun]
    notes: tuple[str, ...] = ()

    def run_of(self, row: Row) -> PlannedRun:
        """The planned training of a row that is not cited."""
        return self.runs[self.row_run_ids[row.run]]

    @cached_property
    def row_run_ids(self) -> dict[RunSpec | None, str]:
        """Run id by spec: one scale and one data set a plan, so the spec decides."""
        return {run.resolved.spec: run_id for run_id, run in self.runs.items()}

    def run_folder(self, run_id: str, seed: int) -> Path:
        """Where a run's files lie: results/<scale>/runs/<run id>/seed<k>."""
        return self.results / "runs" / run_id / f"seed{seed}"

    def data_folder(self, name: DatasetName) -> Path:
        """Where the images of a data set lie; the embedded ones are cached by their settings."""
        data = self.scale.data[name]
        if not isinstance(data, ShapesData):
            return data.root
        drawn = _digest(data.model_dump_json(exclude={"difficult"}))
        return Path("data/shapes") / f"{data.layout}-{drawn}"

    def index_folder(self, name: DatasetName) -> Path:
        """Where `obc index` puts the checked data set's annotations and manifest."""
        return self.results / "data" / name

    @property
    def summary(self) -> tuple[str, ...]:
        """What a user should know before anything runs: how much, where to, what is left out."""
        seeds = ", ".join(map(str, self.config.seeds))
        return (
            f"scale {self.scale.name}: {len(self.runs)} trainings for each seed ({seeds}), "
            f"results in {self.results}/",
            *self.notes,
        )

    @cached_property
    def digest(self) -> str:
        """8 hex digits that change when anything of the plan does."""
        return _digest(self.model_dump_json())

    def table_digest(self, name: str) -> str:
        """8 hex digits of a table's spec and of what its caption says beside it."""
        return _digest(self.tables[name].model_dump_json() + self.config.model_dump_json())

    def data_digest(self, name: DatasetName) -> str:
        """8 hex digits of a data set's settings, where it lies among them."""
        return _digest(self.scale.data[name].model_dump_json())

    def save(self, path: Path) -> None:
        """Write the plan as JSON, atomically."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan written by `save`; ConfigError when it is missing or of other code."""
        try:
            return cls.model_validate_json(path.read_text())
        except FileNotFoundError:
            raise ConfigError(f"{path}: no plan there; write one with `obc plan`") from None
        except ValidationError as error:
            raise ConfigError(explain(error, path, cls)) from None


def load_plan(raw_config: dict[str, Any], config_folder: Path = Path("config")) -> Plan:
    """Read, validate and resolve the whole suite for one call.

    Args:
        raw_config: the merged content of config.yaml and the command line.
        config_folder: holds scales/*.yaml and experiments/*.yaml.

    Raises:
        ConfigError: any file or key is wrong; the message says which and what is allowed.
    """
    config = validate(SuiteConfig, _listed(raw_config), config_folder / "config.yaml")
    scale, own, notes = _scale(config, config_folder)
    identities = {name: _identity(data, own) for name, data in scale.data.items()}
    tables = _tables(config_folder / "experiments")
    if own:
        left_out = sorted(name for name, table in tables.items() if table.dataset not in own)
        tables = {name: table for name, table in tables.items() if table.dataset in own}
        if left_out:
            notes += (f"left out, because no folder of one's own was given: {', '.join(left_out)}",)
    return Plan(
        config=config,
        scale=scale,
        results=_results_folder(config, scale, own),
        tables=tables,
        runs=_runs(tables, scale, identities),
        notes=notes,
    )


# --- scale and data ----------------------------------------------------------------------------


def _scale(
    config: SuiteConfig, folder: Path
) -> tuple[Scale, dict[DatasetName, Data], tuple[str, ...]]:
    """The scale with a user's own data in place, and which data sets are the user's own."""
    path = folder / "scales" / f"{config.scale}.yaml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise ConfigError(f"scale: {config.scale!r} is not one; allowed: {known} ({path.parent})")
    scale = validate(Scale, {"name": config.scale, **read_yaml(path)}, path)
    if config.protocol is not None:
        scale = scale.model_copy(update={"protocol": config.protocol})
    # How difficult objects are read is a choice about any VOC data, not data of one's own.
    base = {
        name: _with_difficult(default, config.difficult) for name, default in scale.data.items()
    }
    data = {
        name: _with_user_choices(name, default, config, scale) for name, default in base.items()
    }
    own = {
        name: new
        for name, new in data.items()
        if data_identity(new, None) != data_identity(base[name], None)
    }
    notes = tuple(
        f"{name}: own data from {new.root}, at most {new.max_train_images or 'all'} training and "
        f"{new.max_val_images or 'all'} validation images at scale {scale.name}"
        for name, new in own.items()
        if not isinstance(new, ShapesData)
    )
    image_scale = {**scale.sizes.image_scale}
    if scale.own_data.image_scale is not None:
        image_scale |= {name: scale.own_data.image_scale for name in own}
    sizes = scale.sizes.model_copy(update={"image_scale": image_scale})
    return scale.model_copy(update={"data": data, "sizes": sizes}), own, notes


def _with_difficult(data: Data, difficult: Difficult) -> Data:
    in_voc_layout = isinstance(data, VocData) or getattr(data, "layout", None) == "voc"
    return data.model_copy(update={"difficult": difficult}) if in_voc_layout else data


def _with_user_choices(name: DatasetName, default: Data, config: SuiteConfig, scale: Scale) -> Data:
    """The scale's data set, or the user's folder in its place."""
    chosen = {
        key.removeprefix(f"{name}_"): value
        for key, value in config.model_dump(exclude_none=True).items()
        if key.startswith(f"{name}_")
    }
    if isinstance(default, ShapesData):
        if not chosen:
            return default
        if "root" not in chosen:
            raise ConfigError(
                f"{name}_{next(iter(chosen))} is given without {name}_root; "
                f"scale {scale.name} draws its own {name} data, so name a folder or drop the key"
            )
        limits = {
            "max_train_images": scale.own_data.train_images,
            "max_val_images": scale.own_data.val_images,
        }
        base: dict[str, Any] = {"kind": name, **limits}
        if name == "voc":
            base["difficult"] = config.difficult
    else:
        base = default.model_dump()
        if set(chosen) - {"root"}:
            base |= {"expected_train_images": None, "expected_val_images": None}
    if name == "voc":
        return VocData(**{**base, **chosen})
    return CocoData(**{**base, **chosen})


def _identity(data: Data, own: dict[DatasetName, Data]) -> dict[str, Any]:
    """What the run ids hash of a data set; a user's folder is fingerprinted, nothing else is."""
    if isinstance(data, ShapesData) or data not in own.values():
        return data_identity(data, None)
    return data_identity(data, fingerprint(data, data.root))


def _results_folder(config: SuiteConfig, scale: Scale, own: dict[DatasetName, Data]) -> Path:
    """results/<scale>, and results/<scale>-<label> when the data are not the scale's own."""
    label = config.label
    if label is None and own:
        label = "-".join(
            "own" if isinstance(data, ShapesData) else data.root.resolve().name.lower()
            for data in own.values()
        )
    return Path(config.results) / (f"{scale.name}-{label}" if label else scale.name)


# --- tables and runs ---------------------------------------------------------------------------


def _tables(folder: Path) -> dict[str, FigureSpec | TableSpec]:
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{folder}: no experiment files (*.yaml) there")
    return {path.stem: read_table(path) for path in paths}


def _runs(
    tables: dict[str, FigureSpec | TableSpec],
    scale: Scale,
    identities: dict[str, dict[str, Any]],
) -> dict[str, PlannedRun]:
    """Every distinct training; rows with the same spec share one."""
    wanted: dict[RunSpec, tuple[list[str], list[str]]] = {}
    for name, table in tables.items():
        for row in table.rows:
            if row.run is not None and row.decode is not None:
                decodes, users = wanted.setdefault(row.run, ([], []))
                decodes += [row.decode] if row.decode not in decodes else []
                users += [name] if name not in users else []
    runs = {}
    for spec, (decodes, users) in wanted.items():
        if spec.backbone not in scale.networks or spec.dataset not in scale.data:
            raise ConfigError(
                f"config/scales/{scale.name}.yaml: {users[0]} needs {spec.backbone} on "
                f"{spec.dataset}, which the scale does not define"
            )
        resolved = resolve(spec, scale, identities[spec.dataset])
        runs[resolved.run_id] = PlannedRun(
            run_id=resolved.run_id,
            resolved=resolved,
            decodes=tuple(sorted(decodes)),
            tables=tuple(users),
        )
    return runs


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _listed(raw: dict[str, Any]) -> dict[str, Any]:
    """`--config seeds=0 voc_train=train` gives scalars where lists are meant."""
    lists = ("seeds", "voc_train", "voc_val", "voc_classes")
    return {
        key: [value] if key in lists and isinstance(value, str | int) else value
        for key, value in raw.items()
    }


__all__ = ["ConfigError", "Plan", "PlannedRun", "SuiteConfig", "load_plan", "read_table"]
