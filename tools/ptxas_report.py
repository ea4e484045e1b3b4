"""What ptxas says of every kernel: registers, shared memory, spills.

As a compiler: ``python ptxas_report.py run nvcc -c a.cu -o a.o`` runs the command and
keeps ptxas's messages in a.o.ptxas instead of showing them. As a report:
``python ptxas_report.py table FOLDER`` prints a table of every kernel whose messages are
in the folder. setup.py does both.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".ptxas"


@dataclass(frozen=True)
class Kernel:
    """One kernel, compiled for one architecture."""

    source: str
    name: str
    arch: str
    registers: int
    shared: int  # bytes of the static kind
    spilled: int  # bytes stored


def run(command: list[str]) -> int:
    """Runs a compiler; its exit status."""
    done = subprocess.run(
        command, check=False, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    lines = done.stderr.splitlines(keepends=True)
    of_ptxas = [line for line in lines if _from_ptxas(line)]
    sys.stderr.writelines(line for line in lines if not _from_ptxas(line))
    if "-o" in command:
        output = Path(command[command.index("-o") + 1] + SUFFIX)
        output.write_text("".join(of_ptxas))
    return done.returncode


def _from_ptxas(line: str) -> bool:
    return (
        line.startswith("ptxas info")
        or re.match(r" +\d+ bytes stack", line) is not None
    )


def parse(text: str, source: str) -> Iterator[Kernel]:
    """The kernels in ptxas's messages."""
    blocks = re.split(r"Compiling entry function '", text)[1:]
    for block in blocks:
        head = re.match(r"(\S+)' for '(\S+)'", block)
        used = re.search(r"Used (\d+) registers", block)
        if head is None or used is None:
            continue
        # Functions of their own (the last block of lines) count as their callers'.
        spills = [int(n) for n in re.findall(r"(\d+) bytes spill stores", block)]
        shared = re.search(r"(\d+) bytes smem", block)
        yield Kernel(
            source,
            head[1],
            head[2],
            int(used[1]),
            int(shared[1]) if shared else 0,
            max(spills, default=0),
        )


def collect(folder: Path) -> list[Kernel]:
    """Every kernel whose messages lie in the folder, with readable names."""
    found = [
        kernel
        for path in sorted(folder.rglob(f"*{SUFFIX}"))
        for kernel in parse(path.read_text(), path.name.removesuffix(".o" + SUFFIX))
    ]
    names = demangled([kernel.name for kernel in found])
    return [
        Kernel(k.source, name, k.arch, k.registers, k.shared, k.spilled)
        for k, name in zip(found, names)
    ]


def demangled(names: list[str]) -> list[str]:
    """C++ names, shortened to the kernel and its template arguments."""
    tool = shutil.which("c++filt")
    if tool and names:
        done = subprocess.run(
            [tool], input="\n".join(names), check=True, capture_output=True, text=True
        )
        names = done.stdout.splitlines()
    short = []
    for name in names:
        name = re.sub(
            r"\((?:anonymous namespace|[^()]*::Params[^()]*)\)(::)?", "", name
        )
        name = re.sub(r"\(.*\)$", "", name.removeprefix("void "))
        short.append(name.replace("torchconv::cuda::", ""))
    return short


def table(kernels: list[Kernel]) -> str:
    """Text, a row for each kernel and a column group for each architecture."""
    archs = sorted({k.arch for k in kernels})
    rows: dict[tuple[str, str], dict[str, Kernel]] = {}
    for kernel in kernels:
        rows.setdefault((kernel.source, kernel.name), {})[kernel.arch] = kernel
    title = "registers / bytes of static shared memory / bytes spilled"
    head = f"{'file':<26} {'kernel':<60}" + "".join(f" {arch:>14}" for arch in archs)
    lines = [title, head]
    for (source, name), by_arch in rows.items():
        cells = [
            f"{k.registers} / {k.shared} / {k.spilled}" if k else "-"
            for k in (by_arch.get(arch) for arch in archs)
        ]
        lines.append(
            f"{source:<26} {name:<60}" + "".join(f" {cell:>14}" for cell in cells)
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    what, *rest = arguments
    if what == "run":
        return run(rest)
    print(table(collect(Path(rest[0]))), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
