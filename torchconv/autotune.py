"""``torchconv.autotune``: convolution algorithms chosen by measuring them.

The planner's choice goes by an estimate. While autotuning is on, the first call of a
problem (shapes, strides, options, dtype, pass, threads) times every algorithm that takes
it, and from then on the fastest one runs. The choice is made below the dispatcher: it
adds no guard to a compiled graph and needs no change in a model.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import _extension
from ._version import __version__

FORMAT = 1
_NAME = "torchconv autotune"

Timings = dict[str, float]
Entries = dict[str, Timings]


@dataclass(frozen=True)
class _Settings:
    mode: str = "off"  # or "use" or "measure"
    cache: Path | None = None
    max_workspace: int | None = None
    include_torch: bool = False


def _place() -> str:
    """What else measurements depend on: the machine and the versions."""
    from .info import cpu_model  # here: ``python -m torchconv.info`` imports it itself

    return f"cpu {cpu_model()}, torchconv {__version__}, torch {torch.__version__}"


class Autotune:
    """The switch of autotuning, off by default; there is one, ``torchconv.autotune``.

    As a context manager it is on inside the block, for every thread of the process::

        with torchconv.autotune(cache="tuned.json"):
            for x in batches:
                model(x)  # the first calls measure, the others are fast

    Backward passes belong into the block as well. ``enable`` and ``disable`` switch it
    for good. Outside, the planner's estimates decide again; what was measured is kept.

    Tuned results are as exact as untuned ones, but which algorithm runs, and with it the
    last bits, depends on the measurement. A cache file that was written once makes the
    choice the same in every later run.
    """

    def __init__(self) -> None:
        self._settings = _Settings()
        self._lock = threading.Lock()
        self._listening = False

    def __call__(
        self,
        *,
        cache: str | os.PathLike[str] | None = None,
        max_workspace: int | None = None,
        include_torch: bool = False,
        measure: bool = True,
    ) -> AbstractContextManager[None]:
        """A block with autotuning on; arguments as :meth:`enable`.

        Under torch.compile the block does nothing: put it around the compiled call.
        """
        if torch.compiler.is_compiling():
            return nullcontext()
        return self._block(_checked(cache, max_workspace, include_torch, measure))

    @contextmanager
    def _block(self, settings: _Settings) -> Iterator[None]:
        before = self._settings
        self._apply(settings)
        try:
            yield
        finally:
            self._apply(before)

    def enable(
        self,
        cache: str | os.PathLike[str] | None = None,
        *,
        max_workspace: int | None = None,
        include_torch: bool = False,
        measure: bool = True,
    ) -> None:
        """Switches autotuning on, for every thread of the process.

        Args:
            cache: a JSON file to read measurements from and to add new ones to. Several
                processes may share it. One that is damaged or holds something else is
                left alone, with a warning.
            max_workspace: bytes of scratch memory that an algorithm may take; None for
                no limit. It does not bound torch's kernel.
            include_torch: torch's own kernel is a candidate too, so that a tuned
                convolution is no slower than torch's. Its results need not be equal for
                any number of threads, as torchconv's are.
            measure: False takes what is known, from the cache or from before, and
                measures nothing.

        Raises:
            TypeError, ValueError: an argument that is none of these.
            RuntimeError: the compiled part is missing.
        """
        self._apply(_checked(cache, max_workspace, include_torch, measure))

    def disable(self) -> None:
        """Switches it off: the planner's estimates decide."""
        self._apply(_Settings())

    def forget(self) -> None:
        """Forgets what was measured in this process; cache files stay."""
        _extension.binary().forget_tuned()

    @property
    def enabled(self) -> bool:
        """Whether measured choices are used now."""
        return self._settings.mode != "off"

    @property
    def measurements(self) -> Entries:
        """What is known: for each problem, in words, the seconds of each candidate;
        negative for one that failed."""
        known: Entries = _extension.binary().tuned()
        return known

    def _apply(self, settings: _Settings) -> None:
        binary = _extension.binary()
        if settings.mode != "off" and settings.cache is not None:
            for key, timings in _entries(_read(settings.cache)).items():
                binary.add_tuned(key, timings)
        with self._lock:
            limit = -1 if settings.max_workspace is None else settings.max_workspace
            if not self._listening:
                binary.on_tuned(_remember)
                self._listening = True
            binary.set_tuning(settings.mode, limit, settings.include_torch)
            self._settings = settings

    def __repr__(self) -> str:
        return f"torchconv.autotune ({self._settings.mode})"


def _checked(
    cache: str | os.PathLike[str] | None,
    max_workspace: int | None,
    include_torch: bool,
    measure: bool,
) -> _Settings:
    path = None
    if cache is not None:
        if not isinstance(cache, (str, os.PathLike)):
            raise TypeError(f"cache must be a path or None, but got {cache!r}")
        path = Path(cache).absolute()
        if path.is_dir():
            raise ValueError(f"cache must be a file, but {str(cache)!r} is a folder")
    if max_workspace is not None:
        if isinstance(max_workspace, bool) or not isinstance(max_workspace, int):
            raise TypeError(
                f"max_workspace must be an int or None, but got {max_workspace!r}"
            )
        if max_workspace < 0:
            raise ValueError(f"max_workspace must not be negative, got {max_workspace}")
    mode = "measure" if measure else "use"
    return _Settings(mode, path, max_workspace, bool(include_torch))


autotune = Autotune()


# The cache file: {"format": 1, "name": ..., "places": {place: {problem: {candidate:
# seconds}}}}. Entries of other machines and versions are kept, and not used.


def _remember(key: str, timings: Timings) -> None:
    """Adds a measurement to the cache file; the binary calls it."""
    path = autotune._settings.cache
    if path is not None:
        _add(path, {key: timings})


def _warn(path: Path, why: str) -> None:
    warnings.warn(
        f"torchconv.autotune: cache {str(path)!r} {why}", RuntimeWarning, stacklevel=2
    )


def _read(path: Path) -> dict[str, Any] | None:
    """The file's content, an empty one if there is no file; None, with a warning, for a
    file that is to be left alone."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {"format": FORMAT, "name": _NAME, "places": {}}
    except (OSError, UnicodeDecodeError) as error:
        _warn(path, f"cannot be read and is ignored: {error}")
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        _warn(path, "is damaged and is ignored")
        return None
    if not isinstance(content, dict) or content.get("name") != _NAME:
        _warn(path, "holds something else and is ignored")
        return None
    if content.get("format") != FORMAT or not isinstance(content.get("places"), dict):
        _warn(path, "was written by another version and is ignored")
        return None
    return content


def _entries(content: dict[str, Any] | None) -> Entries:
    """Those of this machine and these versions that are what they should be."""
    found = {} if content is None else content["places"].get(_place(), {})
    if not isinstance(found, dict):
        return {}
    return {
        key: {name: float(s) for name, s in timings.items()}
        for key, timings in found.items()
        if isinstance(timings, dict)
        and all(
            isinstance(s, (int, float)) and not isinstance(s, bool) and abs(s) < 1e9
            for s in timings.values()
        )
    }


def _add(path: Path, entries: Entries) -> None:
    """Merges entries into the file: read and replaced as a whole under a lock, so that
    processes that write at once lose nothing and readers never see half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            content = _read(path)
            if content is None:
                return
            places = content["places"]
            # What is there may be damaged: only what can be used is kept of it.
            place = places[_place()] = _entries(content)
            for key, timings in entries.items():
                place[key] = {**place.get(key, {}), **timings}
            _replace(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        _warn(path, f"cannot be written: {error}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock file beside the cache; without file locks, atomic replacement
    alone keeps the file whole."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path.with_name(path.name + ".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing the file lets go


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
