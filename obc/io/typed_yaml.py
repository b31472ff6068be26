"""YAML files into strict models: unique keys, and errors with file, key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)

from obc.io.errors import SuiteError, did_you_mean


class ConfigError(SuiteError):
    """A configuration file or option is wrong; the message names the place and the remedy."""


def explain(error: ValidationError, path: Path, model: type[BaseModel]) -> str:
    """One line a problem: `file: key: problem (got value); allowed: ...`.

    Args:
        error: what pydantic raised while validating `model`.
        path: the file that the values came from.
    """
    lines = []
    for problem in error.errors(include_url=False):
        location = tuple(part for part in problem["loc"] if not _is_union_tag(part, problem))
        key = _dotted(location)
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, problem["loc"][:-1])
            hint = did_you_mean(str(problem["loc"][-1]), known)
            lines.append(f"{path}: {key}: unknown key{hint}; allowed: {', '.join(known)}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: {key}: is required and missing")
        elif problem["type"] == "value_error":  # one of ours: it says what was given itself
            lines.append(f"{path}: {key}: {problem['ctx']['error']}")
        else:
            lines.append(f"{path}: {key}: {problem['msg']} (got {problem['input']!r:.120})")
    return "\n".join(lines)


def _dotted(location: tuple[Any, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.lstrip(".").replace(".run.", ".") or "(whole file)"


_TAGS = {
    "offset_bin", "smooth_l1", "l2", "balanced_l1", "iou", "giou", "kl", "dfl", "sabl", "none",
    "shapes", "higher", "not_higher", "close", "peak",
}  # fmt: skip


def _is_union_tag(part: Any, problem: Any) -> bool:
    """Pydantic puts the discriminator's value into the location; no such key is in the file."""
    return part in _TAGS and part != problem["loc"][-1]


def _fields_at(model: Any, location: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the model that lies at a location."""
    candidates = [model]
    for part in location:
        found = []
        for candidate in candidates:
            if part in getattr(candidate, "model_fields", {}):
                found += _models_in(candidate.model_fields[part].annotation)
        candidates = (
            found
            or [candidate for candidate in candidates if _has_tag(candidate, part)]
            or candidates
        )
    return sorted({name for candidate in candidates for name in candidate.model_fields})


def _has_tag(candidate: Any, tag: Any) -> bool:
    return any(
        tag in get_args(field.annotation)
        for field in getattr(candidate, "model_fields", {}).values()
    )


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every model named anywhere inside a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


Model = TypeVar("Model", bound=BaseModel)


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


class Strict(BaseModel):
    """Immutable model that refuses keys it does not know, nan and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
