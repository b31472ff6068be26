"""Snakemake as `make reproduce` calls it: `python -m obc.cli.snakemake` with Snakemake's arguments.

It differs from `snakemake` in two ways. Ctrl-C ends with status 130 and one line, even while
Snakemake starts. A target after `--config` is refused with a message that explains the error.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from typing import Any

INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run Snakemake; return 0 on success, 130 after Ctrl-C, otherwise 1."""
    misplaced = target_after_config(arguments)
    if misplaced is not None:
        print(
            f"--config {misplaced}: not key=value; targets go before --config, e.g. "
            "snakemake table1 --config scale=mini",
            file=sys.stderr,
        )
        return 1
    try:
        from snakemake.cli import args_to_api, parse_args, print_exception

        from obc.operations.workflow_display import was_interrupted

        logging.getLogger("snakemake.logging").addFilter(_is_no_note)
        try:
            parser, options = _parsed(parse_args, arguments)
            succeeded = args_to_api(options, parser)
        except Exception as error:
            print_exception(error)
            succeeded = False
    except KeyboardInterrupt:
        _say_stopped()
        return INTERRUPTED
    if was_interrupted():
        return INTERRUPTED
    return 0 if succeeded else 1


def _say_stopped() -> None:
    """Print the last line after Ctrl-C, by the display if its module is already loaded."""
    display = sys.modules.get("obc.operations.workflow_display")
    if hasattr(display, "say_stopped_early"):
        display.say_stopped_early()
    else:
        print("stopped before the first job; the same command starts again", file=sys.stderr)


def _is_no_note(record: logging.LogRecord) -> bool:
    """Whether to show a record: not Snakemake's note that `--config` extends the config file."""
    return "by additional config specified via the command line" not in record.getMessage()


def _parsed(parse_args: Callable[[list[str]], Any], arguments: Sequence[str]) -> Any:
    """Run Snakemake's parser without showing its line about the profile."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse_args(list(arguments))
    except SystemExit:
        sys.stderr.write(said.getvalue())
        raise


def target_after_config(arguments: Sequence[str]) -> str | None:
    """Return the first word after `--config`, before any other option, that is not `key=value`."""
    inside = False
    for word in arguments:
        if word.startswith("-"):
            inside = word in ("--config", "-C")
        elif inside and "=" not in word:
            return word
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
