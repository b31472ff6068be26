"""Compare nested configs leaf by leaf."""

from __future__ import annotations

from typing import Any

ABSENT = "absent"


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of a config by its dotted path."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = enumerate(value)
    else:
        return {path: list(value) if isinstance(value, tuple) else value}
    found: dict[str, Any] = {}
    for key, child in items:
        found |= leaves(child, f"{path}.{key}".lstrip("."))
    return found


def differences(ours: Any, theirs: Any) -> dict[str, tuple[Any, Any]]:
    """Paths whose values differ: theirs and ours, ABSENT for a key that only one side has."""
    a, b = leaves(ours), leaves(theirs)
    pairs = {path: (b.get(path, ABSENT), a.get(path, ABSENT)) for path in sorted(a | b)}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}
