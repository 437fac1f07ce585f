"""The data room, against the published digests and counts of MNIST and against files made here."""

import dataclasses
import errno
import functools
import gc
import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import warnings
import weakref
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
import torchvision

from vae_nb import data

# Size in bytes and MD5 of the original files, unpacked, as published.
ORIGINALS = {
    "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
}
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
URLOPEN = urllib.request.urlopen


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no folder of one's own, no network, no warning unless it is expected."""

    def no_network(*_, **__):
        raise urllib.error.URLError("no network here")

    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VAE_NB_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield tmp_path / "cache"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """MNIST's files unpacked by the test itself, to start tests from a filled cache."""
    raw = tmp_path_factory.mktemp("unpacked")
    for file in ORIGINALS:
        packed = Path(data.__file__).parent / "mnist" / f"{file}.gz"
        (raw / file).write_bytes(gzip.decompress(packed.read_bytes()))
    return raw


@pytest.fixture
def filled(cache, unpacked):
    """The raw folder of a filled cache."""
    return Path(shutil.copytree(unpacked, cache / "data" / "MNIST" / "raw"))


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def assert_originals(raw: Path) -> None:
    assert files_in(raw) == set(ORIGINALS)
    for file, (size, digest) in ORIGINALS.items():
        content = (raw / file).read_bytes()
        assert (len(content), md5(content)) == (size, digest)


# --- MNIST ---


def test_the_package_carries_the_originals_with_credit(unpacked):
    assert_originals(unpacked)
    folder = Path(data.__file__).parent / "mnist"
    assert sum(path.stat().st_size for path in folder.glob("*.gz")) < 11.5e6
    for path in folder.glob("*.gz"):
        assert path.read_bytes()[3:8] == bytes(5), "gzip -n: neither a name nor a time stamp"
    credit = (folder / "README.md").read_text(encoding="utf-8")
    assert all(author in credit for author in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0"))
    assert all(digest in credit for _, digest in ORIGINALS.values())


def test_mnist_is_whole_and_as_published(cache):
    mnist = data.load()
    assert_originals(cache / "data" / "MNIST" / "raw")
    assert mnist.name == "MNIST"
    assert mnist.train_images.shape == (60_000, 1, 28, 28)
    assert mnist.test_images.shape == (10_000, 1, 28, 28)
    assert mnist.train_images.dtype == mnist.test_images.dtype == torch.float32
    assert mnist.train_labels.dtype == mnist.test_labels.dtype == torch.int64
    assert mnist.train_labels.bincount().tolist() == TRAIN_COUNTS
    assert mnist.test_labels.bincount().tolist() == TEST_COUNTS
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert (mnist.train_images.min(), mnist.train_images.max()) == (0, 1)
    assert mnist.train_images.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train_images.std().item() == pytest.approx(0.3081, abs=5e-5)
    # Upright and in order: the first image read by hand from the bytes after the 16 of the header.
    raw = (cache / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()
    first = np.frombuffer(raw, np.uint8, 784, offset=16).reshape(28, 28)
    assert np.array_equal(mnist.train_images[0, 0].numpy(), np.float32(first) / np.float32(255))
    with pytest.raises(dataclasses.FrozenInstanceError):
        mnist.name = "other"


def test_mnist_is_in_memory_once_and_no_longer_than_somebody_holds_it():
    first = data.load("MNIST", 11)
    assert data.load("MNIST", 11) is first and data.load("MNIST", 12) is not first
    held = weakref.ref(first)
    del first
    gc.collect()
    assert held() is None


def test_images_takes_the_first_so_many_and_leaves_the_test_set_whole(filled):
    few = data.load("MNIST", 7)
    assert few.train_images.shape == (7, 1, 28, 28)
    assert few.train_labels.tolist() == [5, 0, 4, 1, 9, 2, 1]
    assert few.test_images.shape == (10_000, 1, 28, 28)
    assert len(data.load(images=60_000).train_images) == 60_000


@pytest.mark.parametrize("images", [-1, True, False, 1.0, "100", None, float("nan")])
def test_images_that_is_no_count_is_refused_before_anything_is_read(images, cache):
    with pytest.raises(ValueError, match=r"images must be a whole number, 0 for all.*got ") as info:
        data.load(images=images)
    assert str(info.value).endswith(f"got {images!r}")
    assert not cache.exists()


def test_more_images_than_there_are_is_refused(filled):
    with pytest.raises(ValueError, match=r"images must be 0 \(all\) to 60000 for MNIST; got 60001"):
        data.load("MNIST", 60_001)


@pytest.mark.parametrize("name", ["mnist", "CIFAR10", "", None, 3, "FashionMNIST "])
@pytest.mark.parametrize("function", [data.load, data.digest])
def test_an_unknown_name_lists_the_known_ones(function, name, cache):
    with pytest.raises(ValueError, match="one of MNIST, FashionMNIST, KMNIST; got ") as info:
        function(name)
    assert str(info.value).endswith(repr(name))
    assert not cache.exists()


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [delete, truncate, flip])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_cached_file_is_noticed_and_repaired(file, damage, filled):
    others = {name: (filled / name).stat().st_mtime_ns for name in ORIGINALS if name != file}
    damage(filled / file)
    with pytest.warns(UserWarning, match=f"missing or damaged in .*raw: {file}; unpacked again"):
        mnist = data.load(images=1)
    assert_originals(filled)
    assert mnist.test_labels.bincount().tolist() == TEST_COUNTS
    assert others == {name: (filled / name).stat().st_mtime_ns for name in others}
    data.load(images=1)  # and now without a warning


def test_a_killed_process_leaves_nothing_that_stays(cache):
    raw = cache / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.partial").write_bytes(b"half")
    with pytest.warns(UserWarning, match="unpacked again"):
        data.load(images=1)
    assert_originals(raw)


def test_a_whole_cache_is_read_where_nothing_can_be_written(filled, cache, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    for method in ("mkdir", "write_bytes", "touch"):
        monkeypatch.setattr(Path, method, read_only)
    monkeypatch.setattr(data, "FileLock", read_only)
    data.load(images=1)
    assert files_in(cache) == set(ORIGINALS)


def run_python(code: str, *arguments: str, **popen) -> subprocess.Popen:
    root = str(Path(data.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )


def test_processes_that_start_at_once_unpack_once(cache, tmp_path):
    # Each waits until all are there, and says how many files it wrote itself.
    code = """
import os, pathlib, sys, time
from vae_nb import data
written, replace = [], data._replace
data._replace = lambda path, content: (replace(path, content), written.append(path))
here = pathlib.Path(sys.argv[1])
(here / str(os.getpid())).touch()
while len(list(here.iterdir())) < 3:
    time.sleep(0.001)
data._unpacked_mnist()
print(len(written))
"""
    ready = tmp_path / "ready"
    ready.mkdir()
    processes = [run_python(code, str(ready)) for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert sorted(int(out) for out, _ in answers) == [0, 0, 4]
    assert_originals(cache / "data" / "MNIST" / "raw")


def test_a_disk_that_fills_up_gives_one_clear_error_and_no_half_file(cache):
    resource = pytest.importorskip("resource")  # a true failure of the system, for root as well
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # noqa: E731
    process = run_python("from vae_nb import data; data._unpacked_mnist()", preexec_fn=limit)
    message = process.communicate(timeout=60)[1].splitlines()[-1]
    assert process.returncode == 1
    assert message.startswith("OSError: ")
    assert f"cannot write to {cache / 'data'}: File too large. Free some space" in message
    assert "set the environment variable VAE_NB_CACHE to a folder that can be written" in message
    assert files_in(cache) <= {"MNIST.lock"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_says_so(code, cache, monkeypatch):
    def half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match=r"cannot write to .*VAE_NB_CACHE") as info:
        data.load()
    assert info.value.errno == code
    assert str(cache / "data") in str(info.value)
    assert os.strerror(code) in str(info.value)
    assert files_in(cache) <= {"MNIST.lock"}


@pytest.mark.parametrize("name", ["MNIST", "KMNIST"])
def test_a_cache_below_a_file_says_so(name, cache, monkeypatch):
    cache.write_text("a file, no folder")
    with pytest.raises(OSError, match=r"cannot write to .*VAE_NB_CACHE"):
        data.load(name)


@pytest.mark.parametrize("damage", [delete, truncate, flip, lambda path: path.write_bytes(b"x")])
def test_a_damaged_carried_file_asks_for_a_new_installation(damage, tmp_path, cache, monkeypatch):
    carried = Path(shutil.copytree(data._CARRIED, tmp_path / "mnist"))
    monkeypatch.setattr(data, "_CARRIED", carried)
    damage(carried / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(RuntimeError, match=r"mnist/t10k-labels-idx1-ubyte\.gz.*reinstall vae_nb"):
        data.load()
    assert "t10k-labels-idx1-ubyte" not in files_in(cache)


def test_a_carried_file_of_other_content_is_not_believed(tmp_path, cache, monkeypatch):
    carried = Path(shutil.copytree(data._CARRIED, tmp_path / "mnist"))
    monkeypatch.setattr(data, "_CARRIED", carried)
    (carried / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"a whole gzip file"))
    with pytest.raises(RuntimeError, match=r"t10k-labels-idx1-ubyte\.gz.*reinstall vae_nb"):
        data.load()


def test_the_digest_of_mnist_is_that_of_its_files_and_reads_none(cache, unpacked, monkeypatch):
    lines = "".join(f"{md5((unpacked / file).read_bytes())}  {file}\n" for file in ORIGINALS)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"read {path}"))
    assert data.digest("MNIST") == hashlib.sha256(lines.encode()).hexdigest()
    assert not cache.exists()


def test_the_carried_mnist_wins_over_a_folder_of_ones_own(filled, tmp_path, monkeypatch):
    make_set(tmp_path / "own" / "MNIST", packed=False)
    monkeypatch.setenv("VAE_NB_DATA", str(tmp_path / "own"))
    assert len(data.load().train_images) == 60_000


# --- FashionMNIST and KMNIST ---


def make_set(folder: Path, packed: bool, train: int = 30, test: int = 20, seed: int = 0):
    """Four small IDX files, written byte by byte as the format is described; their arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, count in (("train", train), ("t10k", test)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, count, np.uint8)
    for file, array in arrays.items():
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        content = head + array.tobytes()
        if packed:
            (folder / f"{file}.gz").write_bytes(gzip.compress(content, mtime=seed))
        else:
            (folder / file).write_bytes(content)
    return arrays


def assert_loaded(dataset: data.Dataset, arrays: dict[str, np.ndarray]) -> None:
    loaded = [dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels]
    for tensor, (file, array) in zip(loaded, arrays.items(), strict=True):
        if "images" in file:
            assert tensor.dtype == torch.float32
            array = array[:, None].astype(np.float32) / np.float32(255)
        else:
            assert tensor.dtype == torch.int64
        assert np.array_equal(tensor.numpy(), array), file


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_DATA", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
@pytest.mark.parametrize("layout", [".", "{}", "{}/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_set_is_read_from_ones_own_folder(name, layout, packed, own, cache):
    arrays = make_set(own / layout.format(name), packed)
    before = files_in(own)
    dataset = data.load(name)
    assert dataset.name == name
    assert_loaded(dataset, arrays)
    assert (
        data.load(name, 3).train_labels.tolist() == arrays["train-labels-idx1-ubyte"][:3].tolist()
    )
    assert files_in(own) == before
    assert not cache.exists()


def test_each_set_has_its_own_folder_and_the_nearest_wins(own):
    make_set(own, packed=False, seed=1)
    fashion = make_set(own / "FashionMNIST", packed=True, seed=2)
    kuzushiji = make_set(own / "KMNIST" / "raw", packed=False, seed=3)
    assert_loaded(data.load("FashionMNIST"), fashion)
    assert_loaded(data.load("KMNIST"), kuzushiji)


@pytest.mark.parametrize("packed", [True, False])
def test_a_set_put_into_the_cache_is_read(packed, cache):
    arrays = make_set(cache / "data" / "KMNIST" / "raw", packed)
    assert_loaded(data.load("KMNIST"), arrays)


def test_the_set_itself_limits_images(own):
    make_set(own, packed=True, train=30)
    assert len(data.load("KMNIST", 30).train_images) == 30
    with pytest.raises(ValueError, match=r"images must be 0 \(all\) to 30 for KMNIST; got 31"):
        data.load("KMNIST", 31)


def test_the_digest_is_of_the_content_and_not_of_the_packing(own, cache):
    make_set(own, packed=False)
    lines = "".join(f"{md5((own / file).read_bytes())}  {file}\n" for file in ORIGINALS)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert data.digest("KMNIST") == digest
    shutil.rmtree(own)
    make_set(own / "KMNIST", packed=True)
    assert data.digest("KMNIST") == digest
    make_set(own / "KMNIST", packed=True, seed=1)
    assert data.digest("KMNIST") != digest


def test_a_set_that_cannot_be_had_says_where_its_files_belong(cache):
    for function in (data.load, data.digest):
        with pytest.raises(FileNotFoundError) as info:
            function("FashionMNIST")
        message = str(info.value)
        assert all(file in message for file in ORIGINALS)
        assert str(cache / "data" / "FashionMNIST" / "raw") in message
        assert "VAE_NB_DATA" in message
        assert "no network here" in message
        assert "\n" not in message
        assert info.value.__cause__ is not None
        assert files_in(cache) <= {"FashionMNIST.lock"}


def test_an_incomplete_folder_of_ones_own_names_what_is_missing(own, monkeypatch):
    make_set(own / "KMNIST", packed=True)
    (own / "KMNIST" / "t10k-images-idx3-ubyte.gz").unlink()
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("downloads"))
    with pytest.raises(FileNotFoundError, match="KMNIST: no t10k-images-idx3-ubyte in ") as info:
        data.load("KMNIST")
    assert str(own / "KMNIST") in str(info.value)


def test_a_folder_of_ones_own_that_is_none_says_so(own):
    with pytest.raises(FileNotFoundError, match=r"VAE_NB_DATA must name a folder; got .*own"):
        data.load("KMNIST")


def test_an_own_folder_without_the_set_leaves_it_to_the_cache(own, cache):
    own.mkdir()
    arrays = make_set(cache / "data" / "KMNIST" / "raw", packed=True)
    assert_loaded(data.load("KMNIST"), arrays)


def rewrite(path: Path, change) -> None:
    path.write_bytes(change(bytearray(path.read_bytes())))


def with_byte(position: int, value: int):
    def change(content: bytearray) -> bytearray:
        content[position] = value
        return content

    return change


@pytest.mark.parametrize(
    ("file", "change", "what"),
    [
        ("train-images-idx3-ubyte", lambda content: content[:-1], "23519 bytes"),
        ("train-images-idx3-ubyte", lambda content: content + b"x", "23521 bytes"),
        ("train-images-idx3-ubyte", lambda content: content[:10], "whole IDX file"),
        ("train-images-idx3-ubyte", lambda content: b"", "whole IDX file"),
        ("train-images-idx3-ubyte", lambda content: b"<!DOCTYPE html>" * 9, "whole IDX file"),
        ("train-images-idx3-ubyte", with_byte(2, 9), "header 2307"),
        ("train-images-idx3-ubyte", with_byte(11, 14), "header 2051 30 14 28"),
        ("t10k-labels-idx1-ubyte", lambda content: content[:-1], "header 2049 20 and 19 bytes"),
        ("t10k-labels-idx1-ubyte", lambda content: bytes([0, 0, 8, 1, 0, 0, 0, 0]), "whole IDX"),
        ("t10k-labels-idx1-ubyte", with_byte(-1, 10), "labels 0 to 9; got 10"),
        (
            "t10k-labels-idx1-ubyte",
            lambda content: with_byte(7, 19)(content)[:-1],
            "19 labels for the 20 images",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_the_wrong_form_is_named(file, change, what, packed, own):
    make_set(own, packed=False)
    rewrite(own / file, change)
    if packed:
        for path in list(own.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    with pytest.raises(ValueError, match=what) as info:
        data.load("FashionMNIST")
    assert str(own / file) in str(info.value)


@pytest.mark.parametrize(
    "change", [lambda content: content[:-3], with_byte(-6, 1), lambda content: content[:5]]
)
def test_a_damaged_packed_file_is_named(change, own):
    make_set(own, packed=True)
    rewrite(own / "train-labels-idx1-ubyte.gz", change)
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is no whole gzip file"):
        data.load("FashionMNIST")


@pytest.mark.parametrize("packed", [True, False])
def test_the_files_of_mnist_are_not_taken_for_another_set(packed, own, unpacked, monkeypatch):
    shutil.copytree(data._CARRIED if packed else unpacked, own)
    with pytest.raises(ValueError, match=r"belongs to MNIST, not to KMNIST.* in a folder KMNIST"):
        data.load("KMNIST")


def test_the_published_files_of_one_set_are_not_taken_for_the_other(own, monkeypatch):
    make_set(own, packed=True)
    publish(torchvision.datasets.KMNIST, own, "http://nowhere/", monkeypatch)
    data.load("KMNIST")
    with pytest.raises(ValueError, match="belongs to KMNIST, not to FashionMNIST"):
        data.load("FashionMNIST")


def test_a_full_temporary_folder_says_so(own, monkeypatch):
    make_set(own, packed=True)

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"cannot write to .*TMPDIR"):
        data.load("KMNIST")


# --- Downloads, by torchvision's own code from a server on this machine ---


def publish(kind, folder: Path, url: str, monkeypatch) -> None:
    """Make torchvision believe that ``kind`` is what lies in ``folder``, served at ``url``."""
    names = [f"{file}.gz" for file in ORIGINALS]
    resources = [(name, md5((folder / name).read_bytes())) for name in names]
    monkeypatch.setattr(kind, "resources", resources)
    monkeypatch.setattr(kind, "mirrors", [url])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder with a small FashionMNIST, which torchvision takes for the published one."""
    folder = tmp_path / "served"
    make_set(folder, packed=True, seed=5)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    publish(torchvision.datasets.FashionMNIST, folder, url, monkeypatch)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(urllib.request, "urlopen", URLOPEN)
    yield folder
    server.shutdown()
    server.server_close()


PACKED = {f"{file}.gz" for file in ORIGINALS}


def test_a_set_is_downloaded_once_though_two_ask_at_once(served, cache, tmp_path, monkeypatch):
    arrays = make_set(tmp_path / "same", packed=False, seed=5)
    barrier, checked, download = threading.Barrier(2), data._checked, data._download
    looked, loaded, downloads = [], [], []

    def both_find_nothing(name, folder):
        looked.append(threading.current_thread())
        if looked.count(threading.current_thread()) == 1:
            barrier.wait(timeout=30)
        return checked(name, folder)

    def counted(*arguments):
        downloads.append(arguments)
        download(*arguments)

    monkeypatch.setattr(data, "_checked", both_find_nothing)
    monkeypatch.setattr(data, "_download", counted)
    threads = [
        threading.Thread(target=lambda: loaded.append(data.load("FashionMNIST"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (len(loaded), len(downloads)) == (2, 1)
    for dataset in loaded:
        assert_loaded(dataset, arrays)
    assert files_in(cache / "data" / "FashionMNIST" / "raw") == PACKED
    assert files_in(cache) <= PACKED | {"FashionMNIST.lock"}


def test_a_cached_set_is_read_where_nothing_can_be_written(cache, monkeypatch):
    arrays = make_set(cache / "data" / "KMNIST" / "raw", packed=True)
    monkeypatch.setattr(data, "FileLock", lambda *_: pytest.fail("locks"))
    assert_loaded(data.load("KMNIST"), arrays)


@pytest.mark.parametrize("damage", [delete, truncate, lambda path: path.write_bytes(b"<html>")])
def test_a_damaged_download_is_had_again(damage, served, cache):
    data.load("FashionMNIST")
    path = cache / "data" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    damage(path)
    if damage is delete:
        data.load("FashionMNIST")
    else:
        with pytest.warns(UserWarning, match=r"train-images.*\.gz is no whole gzip.*downloading"):
            data.load("FashionMNIST")
    assert path.read_bytes() == (served / path.name).read_bytes()


def test_a_damaged_download_without_network_is_named(served, cache, monkeypatch):
    data.load("FashionMNIST")
    path = cache / "data" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    truncate(path)
    shutil.rmtree(served)
    with (
        pytest.warns(UserWarning, match="downloading"),
        pytest.raises(
            FileNotFoundError, match=r"is no whole gzip file.*The download failed"
        ) as info,
    ):
        data.load("FashionMNIST")
    assert str(path) in str(info.value)


@pytest.mark.parametrize("damage", [delete, truncate])
def test_a_download_that_fails_half_way_leaves_nothing(damage, served, cache):
    damage(served / "t10k-labels-idx1-ubyte.gz")  # the last of the four
    with pytest.raises(FileNotFoundError, match=r"The download failed: .*t10k-labels-idx1-ubyte"):
        data.load("FashionMNIST")
    assert files_in(cache) <= {"FashionMNIST.lock"}
    assert not (cache / "data" / "FashionMNIST.partial").exists()


def test_a_disk_that_fills_up_in_a_download_says_so(served, cache, monkeypatch):
    def full(_, filename, **__):
        Path(filename).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", full)
    with pytest.raises(OSError, match=r"cannot write to .*No space left.*VAE_NB_CACHE") as info:
        data.load("FashionMNIST")
    assert info.value.errno == errno.ENOSPC
    assert files_in(cache) <= {"FashionMNIST.lock"}


# --- Folders and imports ---


def test_the_cache_folder_is_the_platforms_unless_the_environment_names_one(monkeypatch, tmp_path):
    assert data.cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("VAE_NB_CACHE", "~/somewhere")
    assert data.cache_folder() == Path.home() / "somewhere"
    monkeypatch.setenv("VAE_NB_CACHE", "")
    assert data.cache_folder() == Path(platformdirs.user_cache_dir("vae_nb"))
    monkeypatch.delenv("VAE_NB_CACHE")
    assert data.cache_folder() == Path(platformdirs.user_cache_dir("vae_nb"))


def test_an_import_reads_and_writes_nothing_and_is_light(cache):
    process = run_python("import sys; from vae_nb import data; print('torch' in sys.modules)")
    out, err = process.communicate(timeout=60)
    assert (out.strip(), err) == ("False", "")
    assert not cache.exists()
