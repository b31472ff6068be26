"""Text as LaTeX and as Markdown show it."""

from __future__ import annotations

import re

_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "|": "$|$",
        "−": "$-$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "✓": r"$\surd$",
        "β": r"$\beta$",
        "–": "--",
    }
)


def escape_latex(text: str) -> str:
    """Plain text as LaTeX, with the symbols of the paper's labels as mathematics."""
    return text.translate(_LATEX)


def escape_markdown(text: str) -> str:
    """Plain text as Markdown that shows it literally, also inside a table cell."""
    return re.sub(r"([\\`*|<>])", r"\\\1", text)
