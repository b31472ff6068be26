"""The `obc` command; if only the head is installed, it prints how to install the suite."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the suite's command; print a remedy and return 1 if one of its packages is missing."""
    try:
        from obc.cli.main import main as run

        return run()
    except ModuleNotFoundError as error:
        if (error.name or "obc").partition(".")[0] == "obc":
            raise
        print(
            f"obc: {error.name} is not installed. The head works without it; the suite needs the "
            "extra [suite]: pip install '.[suite]' in the project's folder",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
