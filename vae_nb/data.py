"""Data sets: one specification for each, and their files as tensors in memory.

MNIST travels with this package (``mnist/``, credit and licence there). Every other set comes from a
folder of your own (``VAE_NB_DATA``), from the cache, or from torchvision's download. Importing this
module reads and writes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import http.client
import io
import math
import os
import shutil
import socket
import urllib.error
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from weakref import WeakValueDictionary

from vae_nb import cache

if TYPE_CHECKING:  # torch takes seconds to import, and names of data sets do without it
    from torch import Tensor

SIDE = 28  # pixels
LARGEST = 16 + 1_000_000 * SIDE**2  # bytes of an unpacked file: EMNIST has 814,255 images


@dataclasses.dataclass(frozen=True)
class Specification:
    """A data set: its name, the names of its classes by label, and what one image shows.

    Its four IDX files are named as MNIST's are, after ``prefix`` and with ``test`` in the names of
    the test files. ``torchvision`` names the class that downloads it, if there is one.
    ``first_label`` is the label of the first class in the files; where ``transposed``, rows and
    columns are exchanged there (EMNIST).
    """

    name: str
    classes: tuple[str, ...]
    noun: str
    torchvision: str | None = None
    prefix: str = ""
    test: str = "t10k"
    first_label: int = 0
    transposed: bool = False

    def files(self, part: str) -> tuple[str, str]:
        """The names of the unpacked files of images and labels; ``part`` is "train" or "test"."""
        start = f"{self.prefix}{'train' if part == 'train' else self.test}"
        return f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"

    @property
    def all_files(self) -> tuple[str, ...]:
        """The names of its four files."""
        return self.files("train") + self.files("test")


SPECIFICATIONS = {
    each.name: each
    for each in (
        Specification("MNIST", tuple("0123456789"), "digit", "MNIST"),
        Specification(
            "FashionMNIST",
            ("T-shirt", "trousers", "pullover", "dress", "coat")
            + ("sandal", "shirt", "sneaker", "bag", "ankle boot"),
            "garment",
            "FashionMNIST",
        ),
        Specification(
            "KMNIST",
            ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            "character",
            "KMNIST",
        ),
    )
}

# MNIST's original files, unpacked.
_CARRIED = Path(__file__).with_name("mnist")
_CARRIED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

# What a download raises for want of a network. torchvision turns most of it into RuntimeError.
_NO_DOWNLOAD = (
    RuntimeError,
    urllib.error.URLError,
    ConnectionError,
    TimeoutError,
    http.client.HTTPException,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, whole and in memory.

    Images are float32 in [0, 1] of shape (n, 1, 28, 28), labels int64 from 0, of shape (n,).
    ``digest`` names the content of the whole set, as it is here: after all preprocessing.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    digest: str
    whole: Dataset | None = dataclasses.field(default=None, repr=False)  # of which it is a part

    @property
    def specification(self) -> Specification:
        """The entry of SPECIFICATIONS."""
        return SPECIFICATIONS[self.name]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by label."""
        return self.specification.classes

    @property
    def noun(self) -> str:
        """What one image shows: "digit"."""
        return self.specification.noun

    def first(self, train_images: int) -> Dataset:
        """The same set with its first ``train_images`` training images and the whole test set."""
        return dataclasses.replace(
            self,
            train_images=self.train_images[:train_images],
            train_labels=self.train_labels[:train_images],
            whole=self.whole or self,
        )


# MNIST, as long as somebody has it.
_held: WeakValueDictionary[str, Dataset] = WeakValueDictionary()


def load(name: str = "MNIST", train_images: int | None = None) -> Dataset:
    """The data set ``name`` of SPECIFICATIONS with its first ``train_images`` training images.

    None takes all of them; the test set is always whole. MNIST that is still held somewhere (a
    fifth of a gigabyte) is shared by all callers, so its images are not to be changed in place.

    Raises :class:`ValueError` for an unknown name, for a ``train_images`` that the set does not
    have, and for a file that is no IDX file of 28 x 28 images; :class:`FileNotFoundError`, which
    says where the files belong, for a set that is not available; :class:`OSError`, which names the
    remedy, where the cache cannot be written; :class:`RuntimeError` if the carried files are
    damaged.
    """
    if name not in tuple(SPECIFICATIONS):
        raise ValueError(f"dataset must be one of {', '.join(SPECIFICATIONS)}; got {name!r}")
    if train_images is not None and (type(train_images) is not int or train_images < 1):
        raise ValueError(
            "train_images must be None (all) or how many training images to use; got "
            f"{train_images!r}"
        )
    dataset = _held.get(name)
    if dataset is None:
        specification = SPECIFICATIONS[name]
        carried = name == "MNIST"
        dataset = _dataset(specification, _carried() if carried else _contents(specification))
        if carried:
            _held[name] = dataset
    if train_images is None:
        return dataset
    if train_images > len(dataset.train_images):
        raise ValueError(
            f"train_images must be at most {len(dataset.train_images)} for {name}; got "
            f"{train_images}"
        )
    return dataset.first(train_images)


def folder(specification: Specification) -> Path:
    """Where the cache keeps the files of a set."""
    return cache.folder() / "data" / specification.name / "raw"


def _dataset(specification: Specification, contents: dict[str, bytes]) -> Dataset:
    train, test = specification.files("train"), specification.files("test")
    tensors = (
        _images(contents[train[0]], specification),
        _labels(contents[train[1]], specification),
        _images(contents[test[0]], specification),
        _labels(contents[test[1]], specification),
    )
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(repr(tuple(tensor.shape)).encode())
        total.update(tensor.numpy().data)
    return Dataset(specification.name, *tensors, digest=total.hexdigest()[:16])


def _images(content: bytes, specification: Specification) -> Tensor:
    """IDX bytes to (n, 1, 28, 28) float32 in [0, 1]."""
    import torch

    pixels = torch.frombuffer(bytearray(content[16:]), dtype=torch.uint8).view(-1, 1, SIDE, SIDE)
    if specification.transposed:
        pixels = pixels.transpose(2, 3)
    return pixels.float().div_(255).contiguous()


def _labels(content: bytes, specification: Specification) -> Tensor:
    """IDX bytes to (n,) int64 from 0."""
    import torch

    labels = torch.frombuffer(bytearray(content[8:]), dtype=torch.uint8)
    return labels.long() - specification.first_label


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _carried() -> dict[str, bytes]:
    """The files of MNIST, each checked by its digest."""
    contents = {}
    for file, md5 in _CARRIED_MD5.items():
        packed = _CARRIED / f"{file}.gz"
        with contextlib.suppress(OSError, EOFError, zlib.error):
            contents[file] = gzip.decompress(packed.read_bytes())
        if _md5(contents.get(file, b"")) != md5:
            raise RuntimeError(
                f"{packed}, a part of vae_nb, is missing or damaged: reinstall vae_nb (in a clone "
                "of the project: git checkout vae_nb/mnist)"
            )
    return contents


# --- All other sets: your own folder, the cache, or a download ---


def _contents(specification: Specification) -> dict[str, bytes]:
    """The four files of a set, unpacked and checked."""
    own = _own_folder(specification)
    if own is not None:
        return _checked(specification, own)
    raw = folder(specification)
    with contextlib.suppress(FileNotFoundError, ValueError):
        return _checked(specification, raw)
    with cache.locked(raw):
        try:
            return _checked(specification, raw)  # another process may have downloaded it meanwhile
        except FileNotFoundError as error:
            why: Exception = error
        except ValueError as error:
            why = error
            warnings.warn(f"{error}; downloading {specification.name} again", stacklevel=3)
        try:
            with cache.explained(raw, but=_NO_DOWNLOAD):
                _download(specification, raw)
        except _NO_DOWNLOAD as error:
            reason = " ".join(str(error).split())
            raise FileNotFoundError(f"{why}. The download failed: {reason}") from error
    return _checked(specification, raw)


def _own_folder(specification: Specification) -> Path | None:
    """The folder in ``VAE_NB_DATA`` that holds files of the set, if there is one."""
    given = os.environ.get("VAE_NB_DATA")
    if not given:
        return None
    base = Path(given).expanduser().absolute()
    if not base.is_dir():
        raise FileNotFoundError(f"VAE_NB_DATA must name a folder; got {given!r}")
    for place in (base / specification.name / "raw", base / specification.name, base):
        if any(_find(place, file) for file in specification.all_files):
            return place
    return None


def _find(place: Path, file: str) -> Path | None:
    """``file`` in ``place``, packed if it can be: gzip's checksum tells a damaged one."""
    paths = (place / f"{file}.gz", place / file)
    return next((path for path in paths if path.is_file()), None)


def _checked(specification: Specification, place: Path) -> dict[str, bytes]:
    name = specification.name
    paths = {file: _find(place, file) for file in specification.all_files}
    if missing := [file for file, path in paths.items() if path is None]:
        raise FileNotFoundError(
            f"{name}: no {', '.join(missing)} in {place}. The four files, packed (.gz) or "
            f"unpacked, belong in {folder(specification)} or in the folder that the environment "
            f"variable VAE_NB_DATA names (in its {name}/raw, its {name}, or directly)"
        )
    contents = {file: _content(specification, path) for file, path in paths.items() if path}
    for part in ("train", "test"):
        files = specification.files(part)
        images, labels = (int.from_bytes(contents[file][4:8], "big") for file in files)
        if images != labels:
            raise ValueError(
                f"{paths[files[1]]} has {labels} labels for the {images} images in "
                f"{paths[files[0]]}"
            )
    return contents


def _content(specification: Specification, path: Path) -> bytes:
    """The unpacked content of ``path``, an IDX file of 28 x 28 images or of the set's labels."""
    axes = 3 if "images" in path.name else 1
    head = 4 * (1 + axes)
    # No more is read than the header says, which may be a lie, and than a data set can have: a
    # small packed file may hold any number of bytes.
    with path.open("rb") as file:
        packed = _read(file, LARGEST + 1)
    try:
        whole: Any = io.BytesIO(packed)
        opened: Any = gzip.GzipFile(fileobj=whole) if path.suffix == ".gz" else whole
        content = opened.read(head)
        magic, *shape = (int.from_bytes(content[i : i + 4], "big") for i in range(0, head, 4))
        size = head + math.prod(shape)
        content += _read(opened, min(size, LARGEST) + 1 - len(content))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no whole gzip file: {error}") from error
    if (
        magic != 0x800 + axes
        or shape[1:] != [SIDE, SIDE][: axes - 1]
        or not len(content) == size > head
    ):
        kind = "images, header 2051 n 28 28" if axes == 3 else "labels, header 2049 n"
        raise ValueError(
            f"{path} is no whole IDX file of {kind}, then all bytes; got header {magic} "
            f"{' '.join(map(str, shape))} and {max(len(content) - head, 0)} bytes"
        )
    lowest = specification.first_label
    highest = lowest + len(specification.classes) - 1
    if axes == 1 and (wrong := [b for b in set(content[head:]) if not lowest <= b <= highest]):
        raise ValueError(f"{path} must hold labels {lowest} to {highest}; got {max(wrong)}")

    owner = _published().get(_md5(packed)) or _published().get(_md5(content))
    if owner not in (None, specification.name):
        raise ValueError(
            f"{path} belongs to {owner}, not to {specification.name}. The sets' files have the "
            f"same names: keep those of {specification.name} in a folder {specification.name}"
        )
    return content


def _read(file: BinaryIO, most: int) -> bytes:
    """What is left, at most so many bytes; ``file.read(most)`` would take the memory for them."""
    parts = []
    while most > 0 and (part := file.read(min(most, 2**20))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _published() -> dict[str, str]:
    """Which set a file belongs to, by its MD5: as published (packed), or MNIST's unpacked."""
    from torchvision import datasets

    packed = {
        md5: each.name
        for each in SPECIFICATIONS.values()
        if each.torchvision
        for _, md5 in getattr(datasets, each.torchvision).resources
    }
    return packed | dict.fromkeys(_CARRIED_MD5.values(), "MNIST")


def _download(specification: Specification, raw: Path) -> None:
    """Let torchvision download a set beside, then move the packed files, MD5 checked, in."""
    if specification.torchvision is None:
        raise RuntimeError(f"torchvision has no download of {specification.name}")
    from torchvision import datasets

    partial = raw.parent / f"{raw.name}.partial"
    timeout = socket.getdefaulttimeout()
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a killed process
        socket.setdefaulttimeout(60)  # seconds of silence; torchvision would wait for ever
        getattr(datasets, specification.torchvision)(partial, download=True)
        raw.mkdir(parents=True, exist_ok=True)
        for file in specification.all_files:
            source = partial / specification.torchvision / "raw" / f"{file}.gz"
            os.replace(source, raw / f"{file}.gz")
    finally:
        socket.setdefaulttimeout(timeout)
        shutil.rmtree(partial, ignore_errors=True)
