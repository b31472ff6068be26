"""Escape plain text for LaTeX and for Markdown."""

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
    """Escape plain text for LaTeX; the symbols in the paper's labels become mathematics."""
    return text.translate(_LATEX)


def escape_markdown(text: str) -> str:
    """Escape plain text so that Markdown shows it literally, also inside a table cell."""
    return re.sub(r"([\\`*|<>])", r"\\\1", text)
