"""Computed once, for every caller: folders and values on disk, written atomically and verified.

This module knows bytes and names only. A folder is written beside its place and renamed into it,
so that a killed process leaves no half of one. A lock makes a second process wait for the first.
What does not verify is set aside with a warning (under the lock) and computed again.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import functools
import glob
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

import platformdirs
from filelock import FileLock, Timeout

T = TypeVar("T")

_SUMS = "checksums.json"
_NEEDED = 64 * 2**20  # bytes that must be free before anything is computed


class CacheError(OSError):
    """The cache cannot be used; the message names the place and the remedy."""


def folder() -> Path:
    """The cache folder (not created here): ``VAE_NB_CACHE``, or the platform's for ``vae_nb``.

    Raises :class:`CacheError` for a ``~name`` of nobody.
    """
    given = os.environ.get("VAE_NB_CACHE")
    try:
        if given:
            return Path(given).expanduser().absolute()
        return platformdirs.user_cache_path("vae_nb")
    except RuntimeError:
        raise CacheError(errno.ENOENT, f"VAE_NB_CACHE = {given}: that user has no home") from None


@overload
def compute_once(place: Path, write: Callable[[Path], None]) -> Path: ...
@overload
def compute_once(place: Path, write: Callable[[Path], None], read: Callable[[Path], T]) -> T: ...
def compute_once(
    place: Path, write: Callable[[Path], None], read: Callable[[Path], Any] = lambda place: place
) -> Any:
    """What ``read`` makes of the folder ``place``; before, ``write(empty_folder)`` fills it once.

    A folder that ``read`` fails on counts as damaged, whatever its checksums say. Of several
    processes that ask at once, one computes and the others wait; all read under the lock, so that
    nobody prunes what is being read. Raises :class:`CacheError` that names the remedy if the place
    cannot be written; it is raised before anything is computed, so that no work is lost to it.
    """
    if _read_only(place):
        with contextlib.suppress(_Damaged):
            return _verified(place, read)
    with locked(place):
        if os.path.lexists(place):
            try:
                return _verified(place, read)
            except _Damaged as damage:
                _set_aside(place, str(damage))
        beside = _beside(place)
        try:
            with explained(place):
                _ensure_writable(place.parent)
                beside.mkdir()
            write(beside)
            with explained(place):
                sums = {path.name: _digest(path.read_bytes()) for path in sorted(beside.iterdir())}
                (beside / _SUMS).write_text(json.dumps(sums, indent=1))
                for path in beside.iterdir():
                    path.chmod(beside.stat().st_mode & 0o666)  # safetensors makes its own 0600
                    _flush(path)
                _flush(beside)
                os.replace(beside, place)
                _flush(place.parent)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        return _read(place, read)


def values(
    place: Path,
    names: Sequence[str],
    compute: Callable[[list[str]], dict[str, Any]],
    read: Callable[[Any], Any] = lambda value: value,
) -> dict[str, Any]:
    """The JSON values of ``names``, kept in the file ``place``, which grows as more are asked for.

    ``compute`` gets the names that are not in the file yet and returns their values; ``read`` is
    applied to each value. A file with a value that it fails on counts as damaged.
    """
    if _read_only(place) and is_cached(place, names):
        return {name: read(_parsed(place)[name]) for name in names}
    with locked(place):
        kept = _read_values(place, names, read)
        if missing := [name for name in names if name not in kept]:
            with explained(place):
                _ensure_writable(place.parent)
            kept |= compute(missing)
            text = json.dumps(kept)
            kept = json.loads(text)  # the same types as for the next caller
            head = {"sha256": _digest(text.encode()), "name": place.name}
            with explained(place):
                write_atomically(place, json.dumps(head) + "\n" + text)
    return {name: read(kept[name]) for name in names}


def is_cached(place: Path, names: Sequence[str] | None = None) -> bool:
    """Whether ``place`` is there and undamaged (and holds all ``names``); changes nothing."""
    if names is None:
        return not _damage(place)
    try:
        return set(names) <= _parsed(place).keys()
    except (OSError, ValueError):
        return False


def write_atomically(path: Path, text: str) -> None:
    """``text`` into the file ``path``: written beside it, flushed to disk, and renamed."""
    beside = _beside(path)
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
        _flush(beside)
        os.replace(beside, path)
        _flush(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold the lock of ``place``; its parent folders are made.

    What a killed process left unfinished beside it is removed: nobody else works there now.
    """
    with explained(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.parent / f"{place.name}.lock")
        lock.acquire()
    try:
        for dead in place.parent.glob(f".{glob.escape(place.name)}-{'[0-9a-z_]' * 8}"):
            shutil.rmtree(dead, ignore_errors=True) if dead.is_dir() else dead.unlink()
        yield
    finally:
        lock.release()


def is_busy(place: Path) -> bool:
    """Whether somebody holds the lock of ``place``: who asks for it would wait."""
    lock = place.parent / f"{place.name}.lock"
    try:
        with FileLock(lock, timeout=0) if lock.exists() else contextlib.nullcontext():
            return False
    except Timeout:
        return True


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


class _Damaged(Exception):
    """What is kept is not what was written."""


def _verified(place: Path, read: Callable[[Path], Any]) -> Any:
    """What ``read`` makes of a folder; raises :class:`_Damaged`."""
    if damage := _damage(place):
        raise _Damaged(damage)
    try:
        return _read(place, read)
    except Exception as error:  # whatever a wrong file leads to
        raise _Damaged(f"{type(error).__name__}: {' '.join(str(error).split())}") from None


def _read(place: Path, read: Callable[[Path], Any]) -> Any:
    """What ``read`` makes of a folder, at the second attempt if need be.

    An interrupt while safetensors makes tensors is lost, and comes out as an error of another kind:
    a sound folder would count as damaged.
    """
    try:
        return read(place)
    except Exception:
        return read(place)


def _damage(place: Path) -> str:
    """What is wrong with a folder, "" for nothing: every file must be what was written."""
    try:
        if odd := [path.name for path in place.iterdir() if not path.is_file()]:
            return f"{', '.join(odd)} should be a file"  # reading a pipe would never end
        sums = json.loads((place / _SUMS).read_text())
        found = {path.name for path in place.iterdir()} - {_SUMS}
        if not sums or found != sums.keys():
            return f"files {sorted(found)}, checksums of {sorted(sums)}"
        wrong = [name for name in sums if _digest((place / name).read_bytes()) != sums[name]]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        return str(error)
    return ", ".join(wrong)


def _parsed(place: Path) -> dict[str, Any]:
    if place.exists() and not place.is_file():
        raise ValueError("it should be a file")
    head, _, text = place.read_text(encoding="utf-8").partition("\n")
    try:
        about, kept = json.loads(head), json.loads(text)
        own = about["sha256"] == _digest(text.encode()) and about.get("name") in (None, place.name)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(repr(error)) from None
    if not own or not isinstance(kept, dict):
        raise ValueError("its checksum is wrong, or it is another's")
    return kept


def _read_values(place: Path, names: Sequence[str], read: Callable[[Any], Any]) -> dict[str, Any]:
    try:
        kept = _parsed(place)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _set_aside(place, str(error))
        return {}
    try:
        for name in kept.keys() & names:
            read(kept[name])
    except Exception as error:  # whatever a wrong value leads to
        _set_aside(place, f"{name}: {error!r}")
        return {}
    return kept


def _set_aside(place: Path, damage: str) -> None:
    """Rename what is damaged; the caller holds the lock."""
    number = 1
    while os.path.lexists(aside := place.with_name(f"damaged-{place.name}-{number}")):
        number += 1
    with explained(place):
        os.replace(place, aside)
    warnings.warn(
        f"{place} is damaged ({damage}); it is set aside as {aside.name} and computed again",
        stacklevel=4,
    )


def _beside(place: Path) -> Path:
    """A new name beside ``place``, which :func:`locked` and ``cache prune`` know for unfinished."""
    return place.with_name(f".{place.name}-{secrets.token_hex(4)}")


def _read_only(place: Path) -> bool:
    """Whether no lock can be made there: a store that somebody else hands out is only read."""
    with explained(place):
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
    except (OSError, NotImplementedError) as error:  # filelock's own, for a drive without locks
        if isinstance(error, (CacheError, *but)):
            raise
        raise CacheError(
            getattr(error, "errno", None) or errno.EIO,
            f"cannot keep {place.name} in {place.parent}: "
            f"{getattr(error, 'strerror', None) or error}. {_remedy(place, error)} the "
            "environment variable VAE_NB_CACHE to a folder that can be written",
        ) from error


def _remedy(place: Path, error: Exception) -> str:
    """What to do, up to the words "the environment variable"."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP):
        files = [each for each in reversed(place.parents) if each.exists() and not each.is_dir()]
        way = files[0] if files else getattr(error, "filename", None) or place
        return f"Delete what stands in its way ({way}), or set"
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some space there, or set"
    if code in (None, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
        return "No file can be locked there, as on some network drives: set"
    return "Set"


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
