"""The base class of errors that a user can fix.

The message names the place, the offending value and the remedy, so the command line prints it
without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SuiteError(Exception):
    """Something in the input or the state of a run is wrong; the message says what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where a known name is close to the one given; otherwise empty."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
