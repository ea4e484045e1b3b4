"""torchconv-bench: its subcommands, and what they say to bad arguments."""

from __future__ import annotations

import shlex
import sys
from types import ModuleType

from rich.console import Console

import torchconv
from torchconv._extension import load_error

from . import compare, freeze, memory, models, overhead, regret, run, scaling
from .options import Parser

PIPE_WIDTH = 200


COMMANDS: dict[str, ModuleType] = {
    "run": run,
    "compare": compare,
    "regret": regret,
    "scaling": scaling,
    "memory": memory,
    "overhead": overhead,
    "freeze": freeze,
    "models": models,
}


def parser_of(program: str) -> Parser:
    """The command line."""
    parser = Parser(
        prog=program,
        description="Measures torchconv against torch. A ratio above 1 means that "
        "torchconv is faster.",
    )
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        about = (module.__doc__ or "").split("\n", 1)[0].partition(": ")[2]
        one = parsers.add_parser(name, help=about, description=about)
        module.add_arguments(one)
    return parser


def main(arguments: list[str] | None = None, program: str = "torchconv-bench") -> int:
    """Runs a subcommand.

    Returns:
        The exit status: 0; 1 for results that are wrong or too slow; 2 for bad arguments;
        130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if not torchconv.available():
        print(f"{program}: {load_error()}", file=sys.stderr)
        return 2
    options = parser_of(program).parse_args(given)
    console = Console(
        width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False
    )
    command = shlex.join([*program.split(), *given])
    try:
        status: int = COMMANDS[options.command].main(options, console, command)
    except ValueError as error:
        print(f"{program} {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return run.INTERRUPTED
    return status
