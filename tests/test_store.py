"""A run is fitted once, survives a kill and a damaged file, and never comes from a pickle."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from vae_nb import store, training
from vae_nb.training import recipe

SMALL = dict(width=4, latent_dim=8, epochs=1, images=256)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def trainings(monkeypatch):
    calls = []
    original = training.train

    def counted(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(training, "train", counted)
    return calls


def test_a_run_is_fitted_once_and_read_back_whole(cache, trainings):
    first = store.fit(recipe("vae", 0.1, **SMALL))
    again = store.fit(recipe("vae", 0.1, **SMALL))
    assert len(trainings) == 1
    weights, read = first.model.state_dict(), again.model.state_dict()
    assert weights.keys() == read.keys()
    assert all(torch.equal(weights[name], read[name]) for name in weights)
    assert again.history == first.history and again.made == first.made
    assert not again.model.training
    store.fit(recipe("vae", 0.2, **SMALL))
    assert len(trainings) == 2


def test_files_are_safetensors_and_json(cache):
    store.fit(recipe("ae", **SMALL))
    (folder,) = (path for path in store.runs_folder().iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json",
        "history.json",
        "recipe.json",
        "weights.safetensors",
    ]
    record = json.loads((folder / "recipe.json").read_text())
    assert record["recipe"]["model"] == "ae" and record["made"]["torch"] == torch.__version__


@pytest.mark.parametrize("name", ["weights.safetensors", "history.json", "checksums.json"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_a_damaged_run_is_set_aside_and_fitted_again(cache, trainings, name, harm):
    good = store.fit(recipe("vae", 0.1, **SMALL))
    path = store.runs_folder() / good.digest / name
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    path.unlink() if harm == "delete" else path.write_bytes(
        content[: None if harm == "flip" else 9]
    )
    with pytest.warns(UserWarning, match="damaged.*set aside"):
        mended = store.fit(recipe("vae", 0.1, **SMALL))
    assert len(trainings) == 2
    assert torch.equal(good.model.encoder[0].weight, mended.model.encoder[0].weight)
    assert len(list(store.runs_folder().glob("damaged-*"))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.fit(recipe("vae", 0.1, **SMALL))


def _fit_and_say(cache: str, folder: str) -> None:
    os.environ["VAE_NB_CACHE"] = cache
    original = training.train

    def counted(*args, **kwargs):
        Path(folder, str(os.getpid())).touch()
        time.sleep(0.5)
        return original(*args, **kwargs)

    training.train = counted
    torch.set_num_threads(1)
    store.fit(recipe("vae", 0.1, **SMALL))


def test_two_processes_that_ask_at_once_fit_once(tmp_path):
    said = tmp_path / "said"
    said.mkdir()
    context = multiprocessing.get_context("spawn")
    asking = [
        context.Process(target=_fit_and_say, args=(str(tmp_path / "cache"), str(said)))
        for _ in range(2)
    ]
    for process in asking:
        process.start()
    for process in asking:
        process.join(120)
    assert [process.exitcode for process in asking] == [0, 0]
    assert len(list(said.iterdir())) == 1


def test_a_killed_fit_leaves_no_half_run(tmp_path):
    code = """
import sys, time
from vae_nb import store, training
from vae_nb.training import recipe
save = store.save_file
def slow(tensors, path):
    save(tensors, path)
    print("saving", flush=True)
    time.sleep(60)
store.save_file = slow
store.fit(recipe("vae", 0.1, width=4, latent_dim=8, epochs=1, images=256))
"""
    env = {**os.environ, "VAE_NB_CACHE": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"saving\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    runs = tmp_path / "runs"
    assert [path for path in runs.iterdir() if path.is_dir() and path.name[0] != "."] == []
    os.environ["VAE_NB_CACHE"], before = str(tmp_path), os.environ["VAE_NB_CACHE"]
    try:
        assert store.fit(recipe("vae", 0.1, **SMALL)).history.held_out
    finally:
        os.environ["VAE_NB_CACHE"] = before


def test_a_full_disk_is_one_clear_error_before_the_training(cache, trainings, monkeypatch):
    usage = os.statvfs(cache)
    full = type(store.shutil.disk_usage(cache))(usage.f_blocks, usage.f_blocks, 0)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: full)
    with pytest.raises(OSError, match="VAE_NB_CACHE") as caught:
        store.fit(recipe("vae", 0.1, **SMALL))
    assert str(store.runs_folder()) in str(caught.value)
    assert trainings == []


def test_a_store_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("VAE_NB_CACHE", str(blocked))
    with pytest.raises(OSError, match="VAE_NB_CACHE"):
        store.fit(recipe("vae", 0.1, **SMALL))


def test_code_that_decides_the_weights_is_part_of_the_name(cache, monkeypatch, tmp_path):
    name = store.digest(recipe("vae", 0.1, **SMALL))
    for room in (store.models, store.objective, store.training):
        edited = tmp_path / "edited.py"
        for edit, same in (("\n# only a comment\n", True), ("\nedited = True\n", False)):
            edited.write_text(Path(room.__file__).read_text() + edit)
            with monkeypatch.context() as patch:
                patch.setattr(room, "__file__", str(edited))
                store.source_digest.cache_clear()
                assert (store.digest(recipe("vae", 0.1, **SMALL)) == name) is same
    store.source_digest.cache_clear()
    assert store.digest(recipe("vae", 0.1, **SMALL)) == name


def test_values_are_remembered(cache):
    calls = []

    def compute():
        calls.append(1)
        return {"answer": [42.0, 41.0, 43.0]}

    assert store.remembered("x", compute) == store.remembered("x", compute)
    assert len(calls) == 1
