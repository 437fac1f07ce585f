"""Computed once, for every caller: folders and values on disk, written atomically and verified.

This module knows bytes and names only. A folder is written beside its place and renamed into it,
so that a killed process leaves no half of one. A lock makes a second process wait for the first.
What does not verify is set aside with a warning (under the lock) and computed again.
"""

from __future__ import annotations

import ast
import errno
import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

_SUMS = "checksums.json"
_NEEDED = 64 * 2**20  # bytes that must be free before anything is computed


class CacheError(OSError):
    """The cache cannot be used; the message names the place and the remedy."""


def folder() -> Path:
    """The cache folder (not created here): ``VAE_NB_CACHE``, or the platform's for ``vae_nb``."""
    given = os.environ.get("VAE_NB_CACHE")
    return Path(given).expanduser().absolute() if given else platformdirs.user_cache_path("vae_nb")


def compute_once(
    place: Path,
    write: Callable[[Path], None],
    read: Callable[[Path], object] = lambda place: None,
) -> Path:
    """The folder ``place``, verified; if it is not there, ``write(empty_folder)`` fills it first.

    A folder that ``read`` fails on counts as damaged, whatever its checksums say. Of several
    processes that ask at once, one computes and the others wait. Raises :class:`CacheError` that
    names the remedy if the place cannot be written; it is raised before anything is computed, so
    that no work is lost to it.
    """
    if _read_only(place) and is_cached(place):
        return place
    with locked(place):
        if place.exists():
            if not (damage := _damage(place) or _unreadable(place, read)):
                return place
            _set_aside(place, damage)
        with explained(place):
            _ensure_writable(place.parent)
            beside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            write(beside)
            with explained(place):
                sums = {path.name: _digest(path.read_bytes()) for path in sorted(beside.iterdir())}
                (beside / _SUMS).write_text(json.dumps(sums, indent=1))
                beside.chmod(0o777 & ~_umask())  # as any other folder
                for path in beside.iterdir():
                    _flush(path)
                os.replace(beside, place)
                _flush(place.parent)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return place


def values(
    place: Path, names: Sequence[str], compute: Callable[[list[str]], dict[str, Any]]
) -> dict[str, Any]:
    """The JSON values of ``names``, kept in the file ``place``, which grows as more are asked for.

    ``compute`` gets the names that are not in the file yet and returns their values.
    """
    if _read_only(place) and is_cached(place, names):
        return {name: _parsed(place)[name] for name in names}
    with locked(place):
        kept = _read_values(place)
        if missing := [name for name in names if name not in kept]:
            with explained(place):
                _ensure_writable(place.parent)
            kept |= compute(missing)
            text = json.dumps(kept)
            kept = json.loads(text)  # the same types as for the next caller
            with explained(place):
                write_atomically(
                    place, json.dumps({"sha256": _digest(text.encode())}) + "\n" + text
                )
    return {name: kept[name] for name in names}


def is_cached(place: Path, names: Sequence[str] | None = None) -> bool:
    """Whether ``place`` is there and undamaged (and holds all ``names``); changes nothing."""
    if names is None:
        return place.exists() and not _damage(place)
    try:
        return set(names) <= _parsed(place).keys()
    except (OSError, ValueError):
        return False


def write_atomically(path: Path, text: str) -> None:
    """``text`` into the file ``path``: written beside it, flushed to disk, and renamed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        beside.chmod(0o666 & ~_umask())
        _flush(beside)
        os.replace(beside, path)
        _flush(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold the lock of ``place``; its parent folders are made."""
    with explained(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.parent / f"{place.name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@functools.cache
def source_digest(*paths: Path) -> str:
    """A digest of what source files do: comments, docstrings and blank lines do not change it.

    The text that is left is hashed, not a syntax tree, so that every Python has the same digest.
    """
    return _digest("\0".join(_code(path.read_text(encoding="utf-8")) for path in paths).encode())


def _code(text: str) -> str:
    lines = io.StringIO(text).readlines()

    def place(line: int, offset: int) -> tuple[int, int]:  # a syntax tree counts bytes
        return line, len(lines[line - 1].encode()[:offset].decode())

    spans = [  # (line, column) of starts and ends, lines counted from 1
        (token.start, token.end)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            string: Any = node.body[0]
            ends = place(string.end_lineno, string.end_col_offset)
            spans.append((place(string.lineno, string.col_offset), ends))
    for (first, start), (last, end) in sorted(spans, reverse=True):
        lines[first - 1 : last] = [lines[first - 1][:start] + lines[last - 1][end:]]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _damage(place: Path) -> str:
    """What is wrong with a folder, "" for nothing: every file must be what was written."""
    try:
        sums = json.loads((place / _SUMS).read_text())
        found = {path.name for path in place.iterdir()} - {_SUMS}
        if not sums or found != sums.keys():
            return f"files {sorted(found)}, checksums of {sorted(sums)}"
        wrong = [name for name in sums if _digest((place / name).read_bytes()) != sums[name]]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return str(error)
    return ", ".join(wrong)


def _unreadable(place: Path, read: Callable[[Path], object]) -> str:
    """Why ``read`` cannot use a folder whose files are what was written, "" if it can."""
    try:
        read(place)
    except Exception as error:  # whatever a wrong file leads to
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _parsed(place: Path) -> dict[str, Any]:
    head, _, text = place.read_text(encoding="utf-8").partition("\n")
    kept = json.loads(text)
    if json.loads(head) != {"sha256": _digest(text.encode())} or not isinstance(kept, dict):
        raise ValueError("its checksum is wrong")
    return kept


def _read_values(place: Path) -> dict[str, Any]:
    try:
        return _parsed(place)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _set_aside(place, str(error))
        return {}


def _set_aside(place: Path, damage: str) -> None:
    """Rename what is damaged; the caller holds the lock."""
    number = 1
    while (aside := place.with_name(f"damaged-{place.name}-{number}")).exists():
        number += 1
    with explained(place):
        os.replace(place, aside)
    warnings.warn(
        f"{place} is damaged ({damage}); it is set aside as {aside.name} and computed again",
        stacklevel=4,
    )


def _read_only(place: Path) -> bool:
    """Whether no lock can be made there: a store that somebody else hands out is only read."""
    return place.exists() and not os.access(place.parent, os.W_OK)


def _ensure_writable(parent: Path) -> None:
    """Fail before the work rather than after it."""
    with tempfile.TemporaryFile(dir=parent) as probe:
        probe.write(b"x")
    free = shutil.disk_usage(parent).free
    if free < _NEEDED:
        needed = f"only {free / 2**20:.0f} MiB free, {_NEEDED / 2**20:.0f} needed"
        raise OSError(errno.ENOSPC, needed)


@contextmanager
def explained(place: Path, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what the system says into one clear error with the remedy that fits.

    Errors of the types ``but`` pass as they are.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, (CacheError, *but)):
            raise
        remedy = "Set"
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY):
            remedy = "Delete what stands in its way, or set"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "Free some space there, or set"
        raise CacheError(
            error.errno or errno.EIO,
            f"cannot keep {place.name} in {place.parent}: {error.strerror or error}. {remedy} the "
            "environment variable VAE_NB_CACHE to a folder that can be written",
        ) from error


def _flush(path: Path) -> None:
    """Make sure that it survives a power cut, where the system can (folders: not on Windows)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
