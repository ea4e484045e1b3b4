"""torchconv-bench, and python -m benchmarks, which is the same from a checkout.

python -m benchmarks without a subcommand is ``run --cache warm``: a quick look while
working on a kernel.
"""

from __future__ import annotations

import sys


def with_command(arguments: list[str], known: list[str]) -> list[str]:
    """The arguments with a subcommand."""
    if arguments and arguments[0] in (*known, "-h", "--help"):
        return arguments
    return ["run", "--cache", "warm", *arguments]


def console() -> int:
    """The command torchconv-bench."""
    try:
        from .cli import main
    except ModuleNotFoundError as error:
        print(
            f"torchconv-bench needs {error.name}: pip install 'torchconv[bench]'",
            file=sys.stderr,
        )
        return 2
    return main()


if __name__ == "__main__":
    from .cli import COMMANDS, main

    arguments = with_command(sys.argv[1:], list(COMMANDS))
    sys.exit(main(arguments, f"python -m {__package__}"))
