"""python -m benchmarks: torchconv-bench from a checkout.

Without a subcommand it is ``run --cache warm``: a quick look while working on a kernel.
"""

from __future__ import annotations

import sys

from .cli import COMMANDS, main

PROGRAM = f"python -m {__package__}"  # torchconv_benchmarks, where it is installed


def with_command(arguments: list[str]) -> list[str]:
    """The arguments with a subcommand."""
    if arguments and arguments[0] in (*COMMANDS, "-h", "--help"):
        return arguments
    return ["run", "--cache", "warm", *arguments]


if __name__ == "__main__":
    sys.exit(main(with_command(sys.argv[1:]), PROGRAM))
