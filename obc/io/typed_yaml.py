"""Read YAML into strict models: unique keys, and errors with file, key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

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
    """One line for each problem: `file: key: problem (got value); allowed: ...`."""
    lines = []
    for problem in error.errors(include_url=False):
        written, models = _at(model, problem["loc"][:-1])
        key = _dotted((*written, *problem["loc"][-1:]))
        if problem["type"] == "extra_forbidden":
            known = sorted({name for one in models for name in one.model_fields})
            hint = did_you_mean(str(problem["loc"][-1]), known)
            lines.append(f"{path}: {key}: unknown key{hint}; allowed: {', '.join(known)}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: {key}: is required and missing")
        elif problem["type"] == "value_error":  # raised by our validators, which name the value
            lines.append(f"{path}: {key}: {problem['ctx']['error']}")
        else:
            lines.append(f"{path}: {key}: {problem['msg']} (got {problem['input']!r:.120})")
    return "\n".join(lines)


def _dotted(location: tuple[Any, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.lstrip(".").replace(".run.", ".") or "(whole file)"


def _at(model: Any, location: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[type[BaseModel]]]:
    """A location in the file's own keys, and the models at that location.

    Pydantic's location includes the tag that chooses a model of a union; the file has no such key.
    """
    written: list[Any] = []
    places = [model]
    for part in location:
        parts = [one for place in places for one in _alternatives(place)]
        inside = [found for one in parts for found in _inside(one, part)]
        chosen = [] if inside else [one for model in parts for one in _tagged(model, part)]
        written += [] if chosen else [part]
        places = inside or chosen or places
    parts = [one for place in places for one in _alternatives(place)]
    return tuple(written), [one for one in parts if _is_model(one)]


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, or the type within `Annotated`; else the annotation itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [one for part in get_args(annotation) for one in _alternatives(part)]
    return [annotation]


def _inside(annotation: Any, part: Any) -> list[Any]:
    """The types at a field of a model, a key of a mapping or an index of a list."""
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        return [] if field is None else [field.annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return [inner[1]]
    return [one for one in inner if one is not ...] if isinstance(part, int) else []


def _tagged(annotation: Any, tag: Any) -> list[type[BaseModel]]:
    """The model and its subclasses, if a field has the tag among its literals."""
    if not _is_model(annotation):
        return []
    has_tag = any(tag in get_args(one.annotation) for one in annotation.model_fields.values())
    derived = [one for model in annotation.__subclasses__() for one in _tagged(model, tag)]
    return [annotation, *derived] if has_tag else derived


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


Model = TypeVar("Model", bound=BaseModel)


class _UniqueKeys:
    """Mixin for loaders that refuses a repeated key; YAML would silently use the last one."""

    def construct_mapping(self: Any, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {', '.join(twice)} stands there twice", node.start_mark
            )
        return yaml.constructor.SafeConstructor.construct_mapping(self, node, deep)


class _FastLoader(_UniqueKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Loader that parses in C, ten times as fast, where PyYAML was built with libyaml."""


class _QuotingLoader(_UniqueKeys, yaml.SafeLoader):
    """Loader whose errors quote the line; errors of the C parser have only its number."""


def _parsed(text: str) -> Any:
    try:
        return yaml.load(text, _FastLoader)
    except yaml.YAMLError:
        return yaml.load(text, _QuotingLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping without repeated keys; ConfigError otherwise."""
    try:
        content = _parsed(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, not {type(content).__name__}")
    return content


def validate(model: type[Model], raw: dict[str, Any], path: Path) -> Model:
    """Build a model from a file's content; ConfigError with file, key and what is allowed."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, path, model)) from None


class Strict(BaseModel):
    """Immutable model that refuses unknown keys, nan and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
