"""The base of every error that a person can mend.

Its message names the place, the offending value and the remedy, so the command line prints it
without a traceback.
"""

from __future__ import annotations


class SuiteError(Exception):
    """Something in the input or the state of a run is wrong; the message says what to do."""
