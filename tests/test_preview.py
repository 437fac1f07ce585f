"""The archived models: all that a default build shows, and nothing of other code."""

from __future__ import annotations

import shutil

import pytest

from vae_nb import archive, archived_models, data, likelihood, metrics, objective, report, runs
from vae_nb.__main__ import main
from vae_nb.recipe import recipe

LIMIT = 6_000_000  # bytes


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """A cache with the archived models, in which nothing may be trained or measured."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained or measured")

    assert archived_models.unpack(tmp_path) == []
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    monkeypatch.setattr("vae_nb.training.train", refuse)
    monkeypatch.setattr("vae_nb.likelihood.train", refuse)
    monkeypatch.setattr("vae_nb.metrics.measure", refuse)
    monkeypatch.setattr("vae_nb.metrics.classifier._fit", refuse)
    monkeypatch.setattr("vae_nb.objective.pixel_covariance", refuse)
    return tmp_path


def test_they_are_small():
    sizes = [path.stat().st_size for path in archived_models.CARRIED.rglob("*") if path.is_file()]
    assert 1_000_000 < sum(sizes) <= LIMIT


def test_every_model_and_every_number_of_a_default_build_is_there(unpacked):
    for each in archived_models.shown():
        run = runs.fit(each)
        assert run.made["archived"] and run.recipe == each
    for key in report.models():
        read = report.reads(*key)
        assert metrics.of(runs.fit(recipe(*key)), read).keys() == read
    dataset = data.load("MNIST")
    assert metrics.of_real(dataset) and metrics.of_baseline(dataset, "pixels")
    assert len(metrics.curve(runs.fit(recipe("multi_rate")))) > 20
    metrics.classifier.classifier(dataset)
    assert likelihood.fit(dataset).latent_dim == likelihood.LATENTS
    assert len(report.pixel_eigenvalues(dataset)) == objective.PIXELS


@pytest.mark.parametrize("key", [("ae", 0.0), ("vae", 0.1)])
def test_half_precision_moves_no_number_by_more_than_its_interval(unpacked, key):
    run = runs.fit(recipe(*key))
    kept = metrics.of(run, ["mse_sample"])["mse_sample"]
    loss = objective.held_out(run.model, run.dataset.test_images, run.beta)
    assert kept.low < loss["reconstruction"] < kept.high
    (row,) = (r for r in archive.load().of(*key) if r.recipe.seed == 0)  # of another machine
    assert kept.value == pytest.approx(row.measured["mse_sample"].value, rel=0.05)


def test_what_is_damaged_or_of_other_code_is_left_out(tmp_path, monkeypatch):
    carried = tmp_path / "carried"
    shutil.copytree(archived_models.CARRIED, carried)
    first, second = archived_models.shown()[:2]
    weights = carried / "runs" / runs.digest(first) / archived_models.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    assert archived_models.unpack(tmp_path / "a", carried) == [str(first)]
    assert not (tmp_path / "a" / "runs" / runs.digest(first)).exists()
    assert (tmp_path / "a" / "runs" / runs.digest(second)).exists()
    monkeypatch.setattr("vae_nb.runs.code", lambda recipe: "other")
    everything = [str(each) for each in archived_models.shown()]
    assert archived_models.unpack(tmp_path / "b", carried) == everything


def test_a_damaged_classifier_and_damaged_numbers_are_not_unpacked(tmp_path):
    carried = tmp_path / "carried"
    shutil.copytree(archived_models.CARRIED, carried)
    weights = next((carried / "classifiers").glob("*/weights.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    first, second, *_ = sorted((carried / "measured").iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    archived_models.unpack(tmp_path / "a", carried)
    assert not (tmp_path / "a" / "classifiers" / weights.parent.name).exists()
    assert not (tmp_path / "a" / "measured" / first.name).exists()
    assert (tmp_path / "a" / "measured" / second.name).exists()


def test_what_was_not_trained_here_cannot_be_archived(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    before = sorted(archived_models.CARRIED.rglob("*"))
    assert main(["preview", "--archive"]) == 1
    assert "was not trained here: build the book first" in capsys.readouterr().err
    assert sorted(archived_models.CARRIED.rglob("*")) == before
