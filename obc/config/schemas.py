"""JSON schemas of the files in config/, with which editors check and complete them.

They are generated from the typed models and check less: only the models have rules that involve
several keys. Keys that a row can get from its table's `common` are not required.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, TypeAdapter

from obc.config.box_losses.registry import BOX_LOSSES
from obc.config.claims import Claims
from obc.config.reference import ReferenceCard
from obc.config.run import RunSpec
from obc.config.scale import Scale
from obc.config.shipped_weights import Cards
from obc.config.table import FigureSpec, Row
from obc.config.user_choices import ONE_OR_LIST, SuiteConfig
from obc.datasets.published.catalogue import Published

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, Schema]:
    """Return the schema of each kind of file, by its file name in config/schemas."""
    return {
        "config.json": _config(),
        "scale.json": _scale(),
        "table.json": _table(),
        "claims.json": _claims(),
        "datasets.json": _datasets(),
        "cards.json": _finished(_schema(Cards)),
        "reference.json": _finished(_schema(ReferenceCard)),
    }


def as_text(schema: Schema) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _config() -> Schema:
    schema = _schema(SuiteConfig)
    for key in ONE_OR_LIST:
        field = schema["properties"][key]
        if "anyOf" not in field:
            field["anyOf"] = [{"type": field.pop("type"), "items": field.pop("items")}]
        field["anyOf"].append({"type": "string"})
    return _finished(schema)


def _scale() -> Schema:
    schema = _named_by_its_file(Scale)
    schema["$defs"]["Schedule"]["required"].remove("warmup_ratio")  # default: the protocol's
    return _finished(schema)


def _named_by_its_file(model: type[BaseModel]) -> Schema:
    schema = _schema(model)
    del schema["properties"]["name"]
    schema["required"].remove("name")
    return schema


def _table() -> Schema:
    """Schema of a table or figure as its file writes it: flat rows, `common` and `grid`."""
    schema = _schema(FigureSpec)
    del schema["properties"]["name"]
    schema["required"] = ["title", "dataset", "metrics", "rows"]
    schema["properties"]["kind"] = {"enum": ["table", "figure"], "default": "table"}
    row, spec = _schema(Row), _schema(RunSpec)
    row["properties"]["key"]["anyOf"][0]["pattern"] = r"^[a-z][\w{}]*$"  # a grid fills in {...}
    del row["properties"]["run"], spec["properties"]["dataset"]
    properties = {**row["properties"], **spec["properties"], "box": _box()}
    for model in (row, spec):
        schema["$defs"] |= model.pop("$defs", {})
    common = {"type": "object", "properties": properties, "additionalProperties": False}
    grid = {
        "type": "object",
        "additionalProperties": {"type": "array", "minItems": 1},
        "description": "dotted key of the spec: list of values; one row for each combination",
    }
    schema["$defs"]["Row"] = {
        **common,
        "properties": {**properties, "grid": grid},
        "required": ["label"],
    }
    schema["properties"]["common"] = {**common, "description": "keys that all rows share"}
    return _finished(schema)


def _box() -> Schema:
    """The settings of every built-in box loss; those of a plugin's loss are not checked."""
    built_in = {n: one for n, one in BOX_LOSSES.items() if one.__module__.startswith("obc.")}
    properties: dict[str, list[Schema]] = {}
    for model in dict.fromkeys(built_in.values()):
        for key, field in _schema(model)["properties"].items():
            found = properties.setdefault(key, [])
            if key != "loss" and field not in found:
                found.append(field)
    known = {"enum": sorted(built_in)}
    merged = {key: one[0] if len(one) == 1 else {"anyOf": one} for key, one in properties.items()}
    return {
        "type": "object",
        "description": RunSpec.model_fields["box"].description,
        "if": {"properties": {"loss": known}},
        "then": {"properties": {**merged, "loss": known}, "additionalProperties": False},
    }


def _claims() -> Schema:
    schema = _schema(Claims)
    for model in schema["$defs"].values():
        if "pairs" in model["properties"]:
            pair = model["properties"]["pairs"]["items"]
            pair["prefixItems"] = [{"anyOf": [side, {"type": "string"}]}
                                   for side in pair["prefixItems"]]  # fmt: skip
    return _finished(schema)


def _datasets() -> Schema:
    schema = _named_by_its_file(Published)
    definitions = schema.pop("$defs", {})
    whole = {"type": "object", "title": "datasets.yaml", "additionalProperties": schema}
    return _finished({**whole, "$defs": definitions})


def _schema(model: type[BaseModel]) -> Schema:
    return TypeAdapter(model).json_schema()


def _finished(schema: Schema) -> Schema:
    """Add the dialect, and remove definitions that nothing refers to."""
    definitions = schema.get("$defs", {})
    while True:
        text = str({**schema, "$defs": definitions})
        used = {name: one for name, one in definitions.items() if f"'#/$defs/{name}'" in text}
        if used == definitions:
            break
        definitions = used
    return {"$schema": DIALECT, **schema, **({"$defs": used} if used else {})}
