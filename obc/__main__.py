"""The `obc` command, also where only the head is installed: then it says what the suite needs."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the suite's command; 1 with a message where a package of the suite is not installed."""
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
