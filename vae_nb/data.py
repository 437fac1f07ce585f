"""Where do the images come from? Carried MNIST, other sets by name; whole tensors in memory.

MNIST travels with this package (``mnist/``, credit and licence there). At first use it is unpacked
into the cache folder; every later load checks those files by their digests and repairs them.
FashionMNIST and KMNIST, which share MNIST's file names and format, come from a folder of your own
(``VAE_NB_DATA``), from the cache, or from torchvision's download. torchvision's classes read all
three. Importing this module reads and writes nothing.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import math
import os
import shutil
import socket
import tempfile
import urllib.error
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import platformdirs
from filelock import FileLock

if TYPE_CHECKING:  # torch takes seconds to import, and folders and digests do without it
    from torch import Tensor

DATASETS = ("MNIST", "FashionMNIST", "KMNIST")

# The four files of each set, with the MD5 of MNIST's originals (unpacked).
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_CARRIED = Path(__file__).with_name("mnist")

# What a download raises for want of a network. torchvision turns most of it into RuntimeError.
_NO_DOWNLOAD = (
    RuntimeError,
    urllib.error.URLError,
    ConnectionError,
    TimeoutError,
    http.client.HTTPException,
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, whole and in memory.

    Images are float32 in [0, 1] of shape (n, 1, 28, 28), labels int64 in 0..9 of shape (n,).
    MNIST, FashionMNIST and KMNIST have 60,000 training and 10,000 test images.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


# MNIST by its number of training images, as long as somebody has it.
_held: WeakValueDictionary[int, Dataset] = WeakValueDictionary()


def load(name: str = "MNIST", images: int = 0) -> Dataset:
    """The data set ``name`` (one of ``DATASETS``) with its first ``images`` training images.

    ``images`` = 0 takes all of them; the test set is always whole. MNIST that is
    still held somewhere (a fifth of a gigabyte) is the same object for all who ask, so its images
    are not to be changed in place.

    Raises :class:`ValueError` for an unknown name, for an ``images`` that the set does not have,
    and for a file that is no IDX file of 28 x 28 images; :class:`FileNotFoundError`, which says
    where the files belong, for a set that cannot be had; :class:`OSError`, which names the
    remedy, where the cache cannot be written; :class:`RuntimeError` if the carried files are
    damaged.
    """
    _check_name(name)
    if type(images) is not int or images < 0:  # bool is an int, and no number of images
        raise ValueError(
            f"images must be a whole number, 0 for all or the number of training images to use; "
            f"got {images!r}"
        )
    if name == "MNIST":
        root = _unpacked_mnist()
        if (held := _held.get(images)) is not None:
            return held
        train, test = _read(name, root)
    else:
        contents = _contents(name)
        with (
            _writing(Path(tempfile.gettempdir()), "TMPDIR"),
            tempfile.TemporaryDirectory(prefix="vae_nb-") as root,
        ):
            raw = Path(root, name, "raw")  # where torchvision looks
            raw.mkdir(parents=True)
            for file, content in contents.items():
                (raw / file).write_bytes(content)
            train, test = _read(name, Path(root))
    if images > len(train[0]):
        raise ValueError(f"images must be 0 (all) to {len(train[0])} for {name}; got {images}")
    first = slice(images or None)
    dataset = Dataset(name, _scaled(train[0][first]), train[1][first], _scaled(test[0]), test[1])
    if name == "MNIST":
        _held[images] = dataset
    return dataset


def digest(name: str) -> str:
    """The SHA-256 of what ``md5sum`` prints for the set's four unpacked files (64 hex digits).

    It identifies the content of the files, however they were packed. For MNIST no file is read;
    any other set is read, and downloaded if need be. Raises what :func:`load` raises.
    """
    _check_name(name)
    md5s = _MNIST_MD5
    if name != "MNIST":
        md5s = {file: _md5(content) for file, content in _contents(name).items()}
    lines = "".join(f"{md5}  {file}\n" for file, md5 in md5s.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def cache_folder() -> Path:
    """Where unpacked data and fitted models are kept (not created here).

    The environment variable ``VAE_NB_CACHE``, or the platform's cache folder for ``vae_nb``.
    """
    given = os.environ.get("VAE_NB_CACHE")
    return Path(given).expanduser().absolute() if given else platformdirs.user_cache_path("vae_nb")


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}; got {name!r}")


def _read(name: str, root: Path) -> list[tuple[Tensor, Tensor]]:
    """Training and test set: images (n, 28, 28) uint8 and labels (n,) int64."""
    from torchvision import datasets  # slow to import

    sets = [getattr(datasets, name)(root, train=train) for train in (True, False)]
    return [(each.data, each.targets) for each in sets]


def _scaled(images: Tensor) -> Tensor:
    """(n, 28, 28) uint8 to (n, 1, 28, 28) float32 in [0, 1]."""
    return images.unsqueeze(1).float().div_(255)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def _writing(folder: Path, variable: str) -> Iterator[None]:
    """Turn what the system says of a full disk or a read-only folder into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # one of our own, clear already
            raise
        raise OSError(
            error.errno,
            f"cannot write to {folder}: {error.strerror}. Free some space there or set the "
            f"environment variable {variable} to a folder that can be written",
        ) from error


# --- MNIST, carried with the package ---


def _unpacked_mnist() -> Path:
    """torchvision's root with the four files of MNIST in it, each checked by its digest."""
    root = cache_folder() / "data"
    raw = root / "MNIST" / "raw"
    if not _damaged(raw):  # no lock: a whole cache is of use even where nothing can be written
        return root
    with _writing(root, "VAE_NB_CACHE"):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "MNIST.lock"):
            damaged = _damaged(raw)  # again: another process may have unpacked them meanwhile
            if damaged and raw.is_dir():
                warnings.warn(
                    f"missing or damaged in {raw}: {', '.join(damaged)}; unpacked again",
                    stacklevel=3,
                )
            raw.mkdir(parents=True, exist_ok=True)
            for file in damaged:
                _replace(raw / file, _carried(file))
    return root


def _damaged(raw: Path) -> list[str]:
    """The files of MNIST that are not, byte for byte, in ``raw`` (0.1 s for all four)."""
    return [file for file, md5 in _MNIST_MD5.items() if not _has(raw / file, md5)]


def _has(path: Path, md5: str) -> bool:
    try:
        return _md5(path.read_bytes()) == md5
    except OSError:
        return False


def _carried(file: str) -> bytes:
    packed = _CARRIED / f"{file}.gz"
    with contextlib.suppress(OSError, EOFError, zlib.error):
        content = gzip.decompress(packed.read_bytes())
        if _md5(content) == _MNIST_MD5[file]:
            return content
    raise RuntimeError(
        f"{packed}, a part of vae_nb, is missing or damaged: reinstall vae_nb (in a clone of the "
        "project: git checkout vae_nb/mnist)"
    )


def _replace(path: Path, content: bytes) -> None:
    """Write beside and move in: whole or not at all. No fsync, since every load checks digests."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# --- FashionMNIST and KMNIST: your own folder, the cache, or a download ---


def _contents(name: str) -> dict[str, bytes]:
    """The four files of a set, unpacked and checked."""
    own = _own_folder(name)
    if own is not None:
        return _checked(name, own)
    root = cache_folder() / "data"
    raw = root / name / "raw"
    with contextlib.suppress(FileNotFoundError, ValueError):
        return _checked(name, raw)
    with _writing(root, "VAE_NB_CACHE"):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            try:
                return _checked(name, raw)  # another process may have downloaded them meanwhile
            except FileNotFoundError as error:
                why = error
            except ValueError as error:
                why = error
                warnings.warn(f"{error}; downloading {name} again", stacklevel=3)
            try:
                _download(name, root)
            except _NO_DOWNLOAD as error:
                reason = " ".join(str(error).split())
                raise FileNotFoundError(f"{why}. The download failed: {reason}") from error
    return _checked(name, raw)


def _own_folder(name: str) -> Path | None:
    """The folder in ``VAE_NB_DATA`` that holds files of ``name``, if there is one."""
    given = os.environ.get("VAE_NB_DATA")
    if not given:
        return None
    base = Path(given).expanduser().absolute()
    if not base.is_dir():
        raise FileNotFoundError(f"VAE_NB_DATA must name a folder; got {given!r}")
    for folder in (base / name / "raw", base / name, base):
        if any(_find(folder, file) for file in _MNIST_MD5):
            return folder
    return None


def _find(folder: Path, file: str) -> Path | None:
    """``file`` in ``folder``, packed if it can be: gzip's checksum tells a damaged one."""
    paths = (folder / f"{file}.gz", folder / file)
    return next((path for path in paths if path.is_file()), None)


def _checked(name: str, folder: Path) -> dict[str, bytes]:
    found = {file: _find(folder, file) for file in _MNIST_MD5}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"{name}: no {', '.join(missing)} in {folder}. The four files, packed (.gz) or "
            f"unpacked, belong in {cache_folder() / 'data' / name / 'raw'} or in the folder that "
            f"the environment variable VAE_NB_DATA names (in its {name}/raw, its {name}, or "
            "directly)"
        )
    contents = {file: _content(name, path) for file, path in found.items() if path}
    for part in ("train", "t10k"):
        images, labels = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        counts = [int.from_bytes(contents[file][4:8], "big") for file in (images, labels)]
        if counts[0] != counts[1]:
            raise ValueError(
                f"{found[labels]} has {counts[1]} labels for the {counts[0]} images in "
                f"{found[images]}"
            )
    return contents


def _content(name: str, path: Path) -> bytes:
    """The unpacked content of ``path``, an IDX file of 28 x 28 images or of labels 0 to 9."""
    packed = path.read_bytes()
    try:
        content = gzip.decompress(packed) if path.suffix == ".gz" else packed
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no whole gzip file: {error}") from error

    axes = 3 if "images" in path.name else 1
    head = 4 * (1 + axes)
    magic, *shape = (int.from_bytes(content[i : i + 4], "big") for i in range(0, head, 4))
    size = head + math.prod(shape)
    if (
        magic != 0x800 + axes
        or shape[1:] != [28, 28][: axes - 1]
        or not len(content) == size > head
    ):
        kind = "images, header 2051 n 28 28" if axes == 3 else "labels, header 2049 n"
        raise ValueError(
            f"{path} is no whole IDX file of {kind}, then all bytes; got header {magic} "
            f"{' '.join(map(str, shape))} and {max(len(content) - head, 0)} bytes"
        )
    if axes == 1 and max(content[head:]) > 9:
        raise ValueError(f"{path} must hold labels 0 to 9; got {max(content[head:])}")

    owner = _owners().get(_md5(packed)) or _owners().get(_md5(content)) or name
    if owner != name:
        raise ValueError(
            f"{path} belongs to {owner}, not to {name}. The sets' files have the same names: "
            f"keep those of {name} in a folder {name}"
        )
    return content


def _owners() -> dict[str, str]:
    """Which set a file belongs to, by its MD5: as published (packed), or MNIST's unpacked."""
    from torchvision import datasets

    packed = {md5: name for name in DATASETS for _, md5 in getattr(datasets, name).resources}
    return packed | dict.fromkeys(_MNIST_MD5.values(), "MNIST")


def _download(name: str, root: Path) -> None:
    """Let torchvision download a set beside, then move the packed files, MD5 checked, in."""
    from torchvision import datasets

    partial = root / f"{name}.partial"
    timeout = socket.getdefaulttimeout()
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a killed process
        socket.setdefaulttimeout(60)  # seconds of silence; torchvision would wait for ever
        getattr(datasets, name)(partial, download=True)
        raw = root / name / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for file in _MNIST_MD5:
            os.replace(partial / name / "raw" / f"{file}.gz", raw / f"{file}.gz")
    finally:
        socket.setdefaulttimeout(timeout)
        shutil.rmtree(partial, ignore_errors=True)
