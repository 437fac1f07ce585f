"""Data sets, against the published digests and counts of MNIST and against files made here."""

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
import pytest
import torch
import torchvision

from vae_nb import cache, data

# Size in bytes and MD5 of the original files, unpacked, as published.
ORIGINALS = {
    "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
}
PACKED = {f"{file}.gz" for file in ORIGINALS}
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
URLOPEN = urllib.request.urlopen
CARRIED = Path(data.__file__).parent / "mnist"


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """An empty cache, no folder of one's own, no network, no warning unless it is expected."""

    def no_network(*_, **__):
        raise urllib.error.URLError("no network here")

    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VAE_NB_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield tmp_path / "cache"


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_DATA", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def not_held(monkeypatch):
    """MNIST as in a new process."""
    monkeypatch.setattr(data, "_held", weakref.WeakValueDictionary())


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


# --- MNIST ---


def test_the_package_carries_the_originals_with_credit():
    packed = sorted(CARRIED.glob("*.gz"))
    assert {path.name for path in packed} == PACKED
    for path in packed:
        content = gzip.decompress(path.read_bytes())
        assert (len(content), md5(content)) == ORIGINALS[path.stem]
        assert path.read_bytes()[3:8] == bytes(5), "gzip -n: neither a name nor a time stamp"
    assert sum(path.stat().st_size for path in packed) < 11.5e6
    credit = (CARRIED / "README.md").read_text(encoding="utf-8")
    assert all(author in credit for author in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0"))
    assert all(digest in credit for _, digest in ORIGINALS.values())


def test_mnist_is_whole_as_published_and_needs_no_cache(mnist, cache_folder):
    mnist = data.load()
    assert (mnist.name, mnist.noun, mnist.classes) == ("MNIST", "digit", tuple("0123456789"))
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
    raw = gzip.decompress((CARRIED / "train-images-idx3-ubyte.gz").read_bytes())
    first = np.frombuffer(raw, np.uint8, 784, offset=16).reshape(28, 28)
    assert np.array_equal(mnist.train_images[0, 0].numpy(), np.float32(first) / np.float32(255))
    assert not cache_folder.exists()


def test_mnist_is_in_memory_once_and_no_longer_than_somebody_holds_it(not_held):
    part = data.load("MNIST", 11)
    assert data.load("MNIST", 12).train_images.data_ptr() == part.train_images.data_ptr()
    held = weakref.ref(data.load())
    assert held() is part.whole
    del part
    gc.collect()
    assert held() is None


def test_a_part_has_the_first_images_the_whole_test_set_and_the_name_of_the_whole(mnist):
    few = data.load("MNIST", 7)
    assert few.train_images.shape == (7, 1, 28, 28)
    assert few.train_labels.tolist() == [5, 0, 4, 1, 9, 2, 1]
    assert few.test_images.shape == (10_000, 1, 28, 28)
    assert few.digest == data.load().digest
    assert len(data.load(train_images=60_000).train_images) == 60_000


@pytest.mark.parametrize("images", [-1, 0, True, 1.0, "100", float("nan")])
def test_train_images_that_are_no_count_are_refused(images):
    with pytest.raises(ValueError, match=r"train_images must be None \(all\) or how many") as info:
        data.load(train_images=images)
    assert str(info.value).endswith(f"got {images!r}")


def test_more_images_than_there_are_are_refused(mnist, own):
    with pytest.raises(ValueError, match="train_images must be at most 60000 for MNIST; got 60001"):
        data.load("MNIST", 60_001)
    make_set(own, packed=True, train=30)
    assert len(data.load("KMNIST", 30).train_images) == 30
    with pytest.raises(ValueError, match="train_images must be at most 30 for KMNIST; got 31"):
        data.load("KMNIST", 31)


@pytest.mark.parametrize("name", ["mnist", "CIFAR10", "", None, 3, "FashionMNIST "])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="one of MNIST, FashionMNIST, KMNIST; got ") as info:
        data.load(name)
    assert str(info.value).endswith(repr(name))


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def other(path: Path) -> None:
    path.write_bytes(gzip.compress(b"a whole gzip file"))


@pytest.mark.parametrize("damage", [delete, truncate, flip, other])
def test_a_damaged_carried_file_asks_for_a_new_installation(
    damage, tmp_path, not_held, monkeypatch
):
    carried = Path(shutil.copytree(CARRIED, tmp_path / "mnist"))
    monkeypatch.setattr(data, "_CARRIED", carried)
    damage(carried / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(RuntimeError, match=r"mnist/t10k-labels-idx1-ubyte\.gz.*reinstall vae_nb"):
        data.load()


def test_the_carried_mnist_wins_over_a_folder_of_ones_own(not_held, own):
    make_set(own / "MNIST", packed=False)
    assert len(data.load().train_images) == 60_000


# --- Sets read from files: one's own folder, the cache ---


def make_set(
    folder: Path,
    packed: bool,
    train: int = 30,
    test: int = 20,
    seed: int = 0,
    prefix: str = "",
    test_name: str = "t10k",
    labels: range = range(10),
):
    """Four small IDX files, written byte by byte as the format is described; their arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, count in (("train", train), (test_name, test)):
        start = f"{prefix}{part}"
        arrays[f"{start}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{start}-labels-idx1-ubyte"] = rng.choice(labels, count).astype(np.uint8)
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


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
@pytest.mark.parametrize("layout", [".", "{}", "{}/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_set_is_read_from_ones_own_folder(name, layout, packed, own, cache_folder):
    arrays = make_set(own / layout.format(name), packed)
    before = files_in(own)
    dataset = data.load(name)
    assert dataset.name == name and len(dataset.classes) == 10
    assert_loaded(dataset, arrays)
    labels = arrays["train-labels-idx1-ubyte"]
    assert data.load(name, 3).train_labels.tolist() == labels[:3].tolist()
    assert files_in(own) == before
    assert not cache_folder.exists()


def test_each_set_has_its_own_folder_and_the_nearest_wins(own):
    make_set(own, packed=False, seed=1)
    fashion = make_set(own / "FashionMNIST", packed=True, seed=2)
    kuzushiji = make_set(own / "KMNIST" / "raw", packed=False, seed=3)
    assert_loaded(data.load("FashionMNIST"), fashion)
    assert_loaded(data.load("KMNIST"), kuzushiji)


@pytest.mark.parametrize("packed", [True, False])
def test_a_set_put_into_the_cache_is_read_where_nothing_can_be_written(
    packed, cache_folder, monkeypatch
):
    arrays = make_set(cache_folder / "data" / "KMNIST" / "raw", packed)
    monkeypatch.setattr(cache, "FileLock", lambda *_: pytest.fail("locks"))
    assert_loaded(data.load("KMNIST"), arrays)


def test_the_digest_is_of_the_tensors_and_not_of_the_packing(own):
    make_set(own, packed=False)
    digest = data.load("KMNIST").digest
    shutil.rmtree(own)
    make_set(own / "KMNIST", packed=True)
    assert data.load("KMNIST").digest == data.load("KMNIST", 5).digest == digest
    for changes in ({"train": 31}, {"test": 19}, {"seed": 1}):
        make_set(own / "KMNIST", packed=True, **changes)
        assert data.load("KMNIST").digest != digest
    arrays = make_set(own / "KMNIST", packed=True)
    rewrite(own / "KMNIST", "t10k-labels-idx1-ubyte", arrays["t10k-labels-idx1-ubyte"][::-1])
    assert data.load("KMNIST").digest != digest


def rewrite(folder: Path, file: str, labels: np.ndarray) -> None:
    head = bytes([0, 0, 8, 1]) + np.array(labels.shape, ">u4").tobytes()
    (folder / f"{file}.gz").write_bytes(gzip.compress(head + labels.tobytes()))


@pytest.fixture
def letters(monkeypatch):
    """A set of 26 classes as EMNIST has it, added as one specification."""
    specification = data.Specification(
        "Letters",
        tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "letter",
        prefix="emnist-letters-",
        test="test",
        first_label=1,
        transposed=True,
    )
    monkeypatch.setitem(data.SPECIFICATIONS, "Letters", specification)
    return dict(prefix="emnist-letters-", test_name="test", labels=range(1, 27))


def test_a_set_of_26_classes_is_one_specification(letters, own):
    make_set(own, packed=True)  # another set's files beside it are not taken for its own
    arrays = make_set(own, packed=True, train=300, **letters)
    dataset = data.load("Letters")
    assert len(dataset.classes) == 26 and dataset.noun == "letter"
    upright = {
        file: array.transpose(0, 2, 1) if "images" in file else array - 1
        for file, array in arrays.items()
    }
    assert_loaded(dataset, upright)
    assert dataset.train_images.is_contiguous()
    assert set(dataset.train_labels.tolist()) == set(range(26))
    assert data.load("KMNIST").noun == "character"


@pytest.mark.parametrize("label", [0, 27])
def test_labels_of_other_classes_are_refused(label, letters, own):
    make_set(own, packed=True, **letters)
    rewrite(own, "emnist-letters-test-labels-idx1-ubyte", np.full(20, label, np.uint8))
    with pytest.raises(ValueError, match=f"must hold labels 1 to 26; got {label}"):
        data.load("Letters")


def test_a_set_without_a_download_says_where_its_files_belong(letters, cache_folder):
    with pytest.raises(FileNotFoundError, match="no emnist-letters-train-images.*Letters") as info:
        data.load("Letters")
    assert str(cache_folder / "data" / "Letters" / "raw") in str(info.value)


def test_a_set_that_is_not_available_says_where_its_files_belong(cache_folder):
    with pytest.raises(FileNotFoundError) as info:
        data.load("FashionMNIST")
    message = str(info.value)
    assert all(file in message for file in ORIGINALS)
    assert str(cache_folder / "data" / "FashionMNIST" / "raw") in message
    assert "VAE_NB_DATA" in message and "no network here" in message
    assert "\n" not in message
    assert files_in(cache_folder) <= {"raw.lock"}


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


def test_an_own_folder_without_the_set_leaves_it_to_the_cache(own, cache_folder):
    own.mkdir()
    arrays = make_set(cache_folder / "data" / "KMNIST" / "raw", packed=True)
    assert_loaded(data.load("KMNIST"), arrays)


def change(path: Path, how) -> None:
    path.write_bytes(how(bytearray(path.read_bytes())))


def with_byte(position: int, value: int):
    def how(content: bytearray) -> bytearray:
        content[position] = value
        return content

    return how


@pytest.mark.parametrize(
    ("file", "how", "what"),
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
def test_a_file_of_the_wrong_form_is_named(file, how, what, packed, own):
    make_set(own, packed=False)
    change(own / file, how)
    if packed:
        for path in list(own.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    with pytest.raises(ValueError, match=what) as info:
        data.load("FashionMNIST")
    assert str(own / file) in str(info.value)


@pytest.mark.parametrize(
    "how", [lambda content: content[:-3], with_byte(-6, 1), lambda content: content[:5]]
)
def test_a_damaged_packed_file_is_named(how, own):
    make_set(own, packed=True)
    change(own / "train-labels-idx1-ubyte.gz", how)
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is no whole gzip file"):
        data.load("FashionMNIST")


@pytest.mark.parametrize("packed", [True, False])
def test_the_files_of_mnist_are_not_taken_for_another_set(packed, own):
    own.mkdir()
    for path in CARRIED.glob("*.gz"):
        content = path.read_bytes()
        (own / (path.name if packed else path.stem)).write_bytes(
            content if packed else gzip.decompress(content)
        )
    with pytest.raises(ValueError, match=r"belongs to MNIST, not to KMNIST.* in a folder KMNIST"):
        data.load("KMNIST")


def test_the_published_files_of_one_set_are_not_taken_for_the_other(own, monkeypatch):
    make_set(own, packed=True)
    publish(torchvision.datasets.KMNIST, own, "http://nowhere/", monkeypatch)
    data.load("KMNIST")
    with pytest.raises(ValueError, match="belongs to KMNIST, not to FashionMNIST"):
        data.load("FashionMNIST")


# --- Downloads, by torchvision's own code from a server on this machine ---


def publish(kind, folder: Path, url: str, monkeypatch) -> None:
    """Make torchvision believe that ``kind`` is what lies in ``folder``, served at ``url``."""
    resources = [(f"{name}.gz", md5((folder / f"{name}.gz").read_bytes())) for name in ORIGINALS]
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


def test_a_set_is_downloaded_once_though_two_ask_at_once(
    served, cache_folder, tmp_path, monkeypatch
):
    arrays = make_set(tmp_path / "same", packed=False, seed=5)
    barrier, checked, download = threading.Barrier(2), data._checked, data._download
    looked, loaded, downloads = [], [], []

    def both_find_nothing(specification, folder):
        looked.append(threading.current_thread())
        if looked.count(threading.current_thread()) == 1:
            barrier.wait(timeout=30)
        return checked(specification, folder)

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
    assert files_in(cache_folder / "data" / "FashionMNIST" / "raw") == PACKED
    assert files_in(cache_folder) <= PACKED | {"raw.lock"}


@pytest.mark.parametrize("damage", [delete, truncate, lambda path: path.write_bytes(b"<html>")])
def test_a_damaged_download_is_downloaded_again(damage, served, cache_folder):
    data.load("FashionMNIST")
    path = cache_folder / "data" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    damage(path)
    if damage is delete:
        data.load("FashionMNIST")
    else:
        with pytest.warns(UserWarning, match=r"train-images.*\.gz is no whole gzip.*downloading"):
            data.load("FashionMNIST")
    assert path.read_bytes() == (served / path.name).read_bytes()


def test_a_damaged_download_without_network_is_named(served, cache_folder):
    data.load("FashionMNIST")
    path = cache_folder / "data" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    truncate(path)
    shutil.rmtree(served)
    failed = r"is no whole gzip file.*The download failed"
    with (
        pytest.warns(UserWarning, match="downloading"),
        pytest.raises(FileNotFoundError, match=failed) as info,
    ):
        data.load("FashionMNIST")
    assert str(path) in str(info.value)


@pytest.mark.parametrize("damage", [delete, truncate])
def test_a_download_that_fails_half_way_leaves_nothing(damage, served, cache_folder):
    damage(served / "t10k-labels-idx1-ubyte.gz")  # the last of the four
    with pytest.raises(FileNotFoundError, match=r"The download failed: .*t10k-labels-idx1-ubyte"):
        data.load("FashionMNIST")
    assert files_in(cache_folder) <= {"raw.lock"}
    assert not (cache_folder / "data" / "FashionMNIST" / "raw.partial").exists()


def test_a_disk_that_fills_up_in_a_download_says_so(served, cache_folder, monkeypatch):
    def full(_, filename, **__):
        Path(filename).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", full)
    with pytest.raises(cache.CacheError, match=r"No space left.*Free some space.*VAE_NB_CACHE"):
        data.load("FashionMNIST")
    assert files_in(cache_folder) <= {"raw.lock"}


def test_a_cache_that_is_a_file_says_so(cache_folder):
    cache_folder.write_text("a file, no folder")
    with pytest.raises(cache.CacheError, match=r"Delete what stands in its way.*VAE_NB_CACHE"):
        data.load("KMNIST")


def test_an_import_reads_and_writes_nothing_and_is_light(cache_folder):
    code = "import sys; from vae_nb import data; print('torch' in sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
    assert not cache_folder.exists()


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_is_read_no_further_than_its_header_says(packed, own, monkeypatch):
    make_set(own, packed=False)
    monkeypatch.setattr(data, "LARGEST", 100_000)
    file = own / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes() + bytes(10_000_000))
    if packed:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    with pytest.raises(ValueError, match="is no whole IDX file .*and 23521 bytes"):
        data.load("FashionMNIST")
    change(own / "train-labels-idx1-ubyte", lambda content: content[:4] + b"\xff" * 4 + content[8:])
    with pytest.raises(ValueError, match="is no whole IDX file"):
        data.load("FashionMNIST")
