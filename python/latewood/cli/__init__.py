"""The command `latewood`."""

import sys
from importlib import import_module


def main() -> None:
    """Run the command line; say what to install where click is missing."""
    try:
        import_module("click")
    except ImportError:
        sys.stderr.write("latewood: the command line needs the package 'click': pip install 'latewood[cli]'\n")
        sys.exit(1)
    try:
        from latewood.cli.commands import run

        run()
    except KeyboardInterrupt:
        # While the packages were loaded; `run` sees to those that come later.
        sys.stderr.write("latewood: interrupted\n")
        sys.exit(130)
