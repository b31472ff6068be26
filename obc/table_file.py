"""Read one file of config/experiments: rows as people write them into rows as models.

In a file `common` holds what all rows share, a row's spec stands flat beside its label, and a
`grid` stands for one row per combination of its values.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from obc.experiment import FigureSpec, Row, RunSpec, TableSpec
from obc.spec_errors import ConfigError, explain


def read_table(path: Path) -> FigureSpec | TableSpec:
    """Read one table or figure: merge `common` into each row, cross each row's `grid`."""
    raw = read_yaml(path)
    common = raw.pop("common", {})
    rows = raw.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path}: rows: must be a list of rows (label, box, decode, paper)")
    dataset = raw.get("dataset")
    raw["rows"] = [
        _row(point, dataset) for row in rows for point in _crossed(_merged(common, row), path)
    ]
    model = FigureSpec if raw.get("kind") == "figure" else TableSpec
    return validate(model, {"name": path.stem, **raw}, path)


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
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        raise ConfigError(f"{path}: grid: must map dotted keys (box.num_bins) to non-empty lists")
    points = []
    for values in itertools.product(*grid.values()):
        point = row
        for key, value in zip(grid, values, strict=True):
            nested: Any = value
            for part in reversed(key.split(".")):
                nested = {part: nested}
            point = _merged(point, nested)
        named = {key.rsplit(".", 1)[-1]: value for key, value in zip(grid, values, strict=True)}
        try:
            point["label"] = str(point.get("label", "")).format(**named)
        except (KeyError, IndexError) as error:
            raise ConfigError(
                f"{path}: label {row.get('label')!r}: no grid key {error}, "
                f"allowed: {', '.join(named)}"
            ) from None
        points.append(point)
    return points


def _row(raw: dict[str, Any], dataset: Any) -> dict[str, Any]:
    """Separate a flat YAML row into what the row model and the run spec each take."""
    row = {key: value for key, value in raw.items() if key in Row.model_fields and key != "run"}
    spec = {key: value for key, value in raw.items() if key not in row}
    if row.get("cited"):
        unknown = set(spec) - set(RunSpec.model_fields)
        return {**row, **{key: spec[key] for key in unknown}}
    run = {"dataset": dataset, **spec}
    is_bins = isinstance(run.get("box"), dict) and run["box"].get("loss") == "offset_bin"
    row.setdefault("decode", "expectation" if is_bins else "regression")
    return {**row, "run": run}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; ConfigError otherwise."""
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, not {type(content).__name__}")
    return content


def validate(model: Any, raw: dict[str, Any], path: Path) -> Any:
    """A model from what a file holds; ConfigError with file, key and what is allowed otherwise."""
    try:
        return TypeAdapter(model).validate_python(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, path, model)) from None
