"""Read one file of config/experiments: rows as people write them into rows as models.

In a file `common` holds what all rows share, a row's spec stands flat beside its label, and a
`grid` stands for one row per combination of its values.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from obc.experiment import FigureSpec, Row, TableSpec
from obc.spec_errors import ConfigError, explain

Model = TypeVar("Model", bound=BaseModel)

# Target names of the workflow; a table of that name would be a second rule of it.
RESERVED_NAMES = {
    "all", "partial", "plan", "fetch", "draw", "index", "train", "evaluate", "table", "figure",
    "claims", "claims_report", "compared", "losses", "figure4", "figure6", "training_curves",
    "curves", "diagnosis", "inside", "page", "report",
}  # fmt: skip


def read_table(path: Path) -> FigureSpec | TableSpec:
    """Read one table or figure: merge `common` into each row, cross each row's `grid`.

    Raises:
        ConfigError: anything in the file is wrong.
    """
    raw = read_yaml(path)
    if "name" in raw or path.stem in RESERVED_NAMES | {"all_csv"}:
        raise ConfigError(
            f"{path}: a table is called as its file; drop a key `name`, and call the file "
            f"neither {', '.join(sorted(RESERVED_NAMES))} nor all_csv"
        )
    common, rows = raw.pop("common", {}), raw.get("rows")
    if not isinstance(common, dict):
        raise ConfigError(f"{path}: common: must be a mapping of keys that all rows share")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path}: rows: must be a list of rows (label, box, decode, paper)")
    raw["rows"] = [model for row in rows for model in _row_models(row, common, raw, path)]
    model = FigureSpec if raw.get("kind") == "figure" else TableSpec
    return validate(model, {"name": path.stem, **raw}, path)


def _row_models(
    row: dict[str, Any], common: dict[str, Any], table: dict[str, Any], path: Path
) -> list[dict[str, Any]]:
    """What the row model takes, for each point of a row's grid."""
    if row.get("cited"):
        return [row]  # what rows share is about trainings; a citation has none
    return [_row(point, table.get("dataset")) for point in _crossed(_merged(common, row), path)]


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Deep merge; a box with another loss replaces the common box instead of mixing with it."""
    merged = {**base}
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            replaces = "loss" in value and value["loss"] != old.get("loss", value["loss"])
            value = value if replaces else _merged(old, value)
        merged[key] = value
    return merged


def _crossed(row: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The row once for each combination of its `grid` (dotted key: list of values)."""
    grid = row.pop("grid", None)
    if grid is None:
        return [row]
    if not isinstance(grid, dict) or not all(
        isinstance(key, str) and isinstance(values, list) and values for key, values in grid.items()
    ):
        raise ConfigError(f"{path}: grid: must map dotted keys (box.num_bins) to non-empty lists")
    return [
        _point(row, dict(zip(grid, values, strict=True)), path)
        for values in itertools.product(*grid.values())
    ]


def _point(row: dict[str, Any], values: dict[str, Any], path: Path) -> dict[str, Any]:
    """The row with one value for each dotted key, named in label and key by the last part."""
    point = row
    for key, value in values.items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        point = _merged(point, nested)
    names = {key.rsplit(".", 1)[-1]: value for key, value in values.items()}
    texts = {name: str(point[name]) for name in ("label", "key") if name in point}
    try:
        return {**point, **{name: text.format(**names) for name, text in texts.items()}}
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"{path}: {' and '.join(f'{name} {text!r}' for name, text in texts.items())}: "
            f"no grid key {error}, allowed: {', '.join(names)}"
        ) from None


def _row(raw: dict[str, Any], dataset: Any) -> dict[str, Any]:
    """Separate a flat YAML row into what the row model and the run spec each take."""
    row = {key: value for key, value in raw.items() if key in Row.model_fields and key != "run"}
    run = {"dataset": dataset, **{key: value for key, value in raw.items() if key not in row}}
    is_bins = isinstance(run.get("box"), dict) and run["box"].get("loss") == "offset_bin"
    row.setdefault("decode", "expectation" if is_bins else "regression")
    return {**row, "run": run}


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one; this loader refuses it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {', '.join(twice)} stands there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping without repeated keys; ConfigError otherwise."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, not {type(content).__name__}")
    return content


def validate(model: type[Model], raw: dict[str, Any], path: Path) -> Model:
    """A model from what a file holds; ConfigError with file, key and what is allowed otherwise."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, path, model)) from None
