"""The `obc` command: reads the command line and runs one subcommand."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any, NoReturn, get_args

from obc.cli import data, results, runs, trained, watch
from obc.cli.options import Command, Group, Terminal, add_plan
from obc.io.errors import SuiteError, did_you_mean
from obc.runs.versions import DISTRIBUTION

COMMANDS: dict[str, Command] = {
    command.name: command
    for part in (runs, watch, trained, results, data)
    for command in part.COMMANDS
}  # fmt: skip
DESCRIPTION = "Single steps of the reproduction of Offset Bin Classification (CVPR 2020)."
EPILOG = """\
`snakemake --cores N` runs all steps in the right order (README.md).
`obc COMMAND --help` shows the options of a command, with examples."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status.

    The status is 0 on success and 1, with a message, on an error that a user can fix. As in a shell
    it is 130 after Ctrl-C and 141 if the reader of a pipe closed it. A training that a signal
    stopped saves a checkpoint and raises SystemExit with status 143 or 130.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal lacks is escaped
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words:
            parser.print_help()
            return 0
        options = parser.parse_args(words)
        COMMANDS[options.command].run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The pipe has no reader; flushing the rest of the buffer at exit would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (SuiteError, OSError) as error:
        print(f"obc {words[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _plan_first(words: list[str]) -> list[str]:
    """Read `obc COMMAND results/x/plan.json` as `obc COMMAND --plan results/x/plan.json`."""
    reads_plan = bool(words) and words[0] in COMMANDS and COMMANDS[words[0]].reads_plan
    if reads_plan and len(words) > 1 and words[1].endswith("plan.json"):
        return [words[0], "--plan", *words[1:]]
    return words


def _own_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # called from a checkout that is not installed
        return "(not installed)"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = Parser(prog="obc", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"obc {_own_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        step = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[:1].upper()}{command.summary[1:]}.",
            epilog="\n".join(["examples:", *(f"  {x}" for x in command.examples.splitlines())]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.reads_plan:
            add_plan(step)
        command.arguments(step)
    return parser


class Parser(argparse.ArgumentParser):
    """A parser that lists the commands in groups and suggests a similar word for an unknown one."""

    def print_help(self, file: IO[str] | None = None) -> None:
        """Print the list of commands, or the help of one command, with headings in bold."""
        from rich.text import Text

        console = Terminal(file)
        text = _commands_help() if self.prog == "obc" else self.format_help()
        for line in text.splitlines():
            heading = line.startswith("usage:") or (line.endswith(":") and line[:1].isalpha())
            console.print(Text(line, style="bold" if heading else ""))

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        """Parse as argparse does; for an unknown option suggest a similar one of its command."""
        words = _plan_first(list(sys.argv[1:] if args is None else args))
        options, unknown = self.parse_known_args(words, namespace)
        if unknown:
            step = self._subparsers._group_actions[0].choices[options.command]  # type: ignore[union-attr]
            hint = did_you_mean(unknown[0], step._option_string_actions)
            step.error(f"unrecognised: {' '.join(unknown)}{hint}")
        return options

    def error(self, message: str) -> NoReturn:
        """Suggest a similar word if the given word is not a valid choice."""
        if "invalid choice: '" in message:
            word = message.split("invalid choice: '")[1].split("'")[0]
            hint = did_you_mean(word, COMMANDS) if self.prog == "obc" else ""
            message = message.replace(f"'{word}'", f"'{word}'{hint}", 1)
        super().error(message)


def _commands_help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = ["usage: obc COMMAND [PLAN] ...", "", DESCRIPTION]
    for group in get_args(Group):
        lines += ["", f"{group}:"]
        lines += [
            f"  {command.name:{width}}{command.summary}"
            for command in COMMANDS.values()
            if command.group == group
        ]
    return "\n".join([*lines, "", EPILOG])


if __name__ == "__main__":
    sys.exit(main())
