"""The registry, the record that metrics share, and the cache of what was measured."""

import dataclasses
import functools
import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import toys

from vae_nb import cache, metrics
from vae_nb.metrics import METRICS, Metric, curves, intervals, probes, samples
from vae_nb.metrics.controls import ControlRecord
from vae_nb.metrics.intervals import Estimate
from vae_nb.metrics.record import Record

BOOK = Path(__file__).resolve().parents[1] / "book"


@pytest.fixture(scope="module")
def toy():
    return toys.dataset()


@pytest.fixture(scope="module")
def vae(toy):
    return toys.run(toy)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))


# --- words ---


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_has_all_words_and_what_they_refer_to_is_there(metric):
    assert metric.title and metric.about and metric.compute.__doc__
    sections = ("reconstructions", "samples", "densities", "codes", "interpolations", "probes")
    assert metric.section in sections
    assert metric.better in ("", "lower", "higher") and (metric.best or not metric.better)
    keys = ",".join(re.findall(r"{cite:p}`([^`]*)`", metric.about)).split(",")
    references = (BOOK / "references.bib").read_text()
    assert all(f"{{{key}," in references for key in keys if key)
    terms = re.findall(r"{term}`([^`<]*)`", metric.about)
    glossary = (BOOK / "glossary.md").read_text().lower()
    assert all(f"\n{term.lower()}\n" in glossary for term in terms)


def test_titles_differ():
    assert max(Counter(metric.title for metric in METRICS.values()).values()) == 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.02284, "0.0228"),
        (8.2, "8.2"),
        (12345.6, "12,300"),
        (0.00004, "<\u00a00.0001"),
        (-0.00004, ">\u00a0-0.0001"),
        (0.00123, "0.00123"),
        (0.000456, "0.0005"),
        (100, "100"),
        (0, "0"),
        (float("nan"), "–"),
    ],
)
def test_numbers_are_written_with_three_digits(value, written):
    assert metrics.number(value) == written


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("mse_mean", 0.02284, "0.0228"),
        ("same_label", 0.973, "97\u00a0%"),
        ("same_label", 0.9961, "99.6\u00a0%"),
        ("same_label", 1.0, "100\u00a0%"),
        ("probe_100", 0.973, "97.3\u00a0%"),
        ("extra_strokes_0.5", 0.04, "+0.04"),
        ("recognised_prior", float("nan"), "–"),
    ],
)
def test_a_metric_is_shown_in_its_own_format(name, value, written):
    assert METRICS[name].show(value) == METRICS[name].show(Estimate(value, 0, 1)) == written


# --- what decides a number ---


def test_identity_is_that_of_what_computes_and_not_of_the_words():
    metric = METRICS["extra_strokes_0.5"]
    assert dataclasses.replace(metric, title="other", about="", best="").identity == metric.identity
    others = (
        dataclasses.replace(metric, of={"threshold": 0.4}),
        dataclasses.replace(metric, compute=METRICS["extra_euler_0.5"].compute),
        METRICS["extra_strokes_0.7"],
    )
    assert len({metric.identity, *(other.identity for other in others)}) == 4
    assert len({each.identity for each in METRICS.values()}) == len(METRICS)


def test_a_metric_depends_on_the_modules_that_its_function_builds_upon(monkeypatch):
    """An edit of `paths` changes no FID of samples, one of `samples` also that of midpoints."""

    def identities(edited=None):
        def digest(*files):
            content = repr([(file.name, file.stem == edited) for file in files])
            return hashlib.sha256(content.encode()).hexdigest()

        monkeypatch.setattr(cache, "source_digest", digest)
        return {name: dataclasses.replace(METRICS[name]).identity for name in METRICS}

    def changed(module):
        before, after = identities(), identities(module)
        return {name for name in METRICS if before[name] != after[name]}

    assert changed("paths") == {n for n, m in METRICS.items() if m.section == "interpolations"}
    assert {"fid_prior", "midpoint_fid"} <= changed("samples")
    assert not {"rate", "mse_mean", "probe_all"} & changed("samples")
    assert all(changed(module) == set(METRICS) for module in ("intervals", "record", "classifier"))
    assert not changed("__init__")


def test_what_measured_is_named_by_module(vae, toy):
    every = metrics.code()
    assert set(every) == {"reconstruction", "samples", "latent", "curves", "paths", "probes"}
    assert metrics.code(vae) == metrics.code(vae.recipe) == every
    assert set(metrics.code(toys.run(toy, "ae"))) == set(every) - {"curves"}


# --- the cache ---


@pytest.fixture
def counted(monkeypatch):
    """Two metrics of this file in place of all; what they were called with, in order."""
    calls = []

    def compute(record, which="all"):
        calls.append(which)
        return None if which == "none" else Estimate(len(calls), float("nan"), 2.0)

    monkeypatch.setitem(globals(), "compute", compute)
    words = {"section": "codes", "about": "words"}
    registry = {
        "one": Metric("one", "One", compute, {"which": 1}, **words),
        "two": Metric("two", "Two", compute, {"which": 2}, **words),
    }
    monkeypatch.setattr(metrics, "METRICS", registry)
    return registry, calls


def test_only_what_is_missing_is_measured(vae, counted, empty_cache):
    registry, calls = counted
    assert list(metrics.of(vae, ["two"])) == ["two"] and calls == [2]
    both = metrics.of(vae)
    assert [both["one"].value, both["two"].value] == [2, 1] and calls == [2, 1]
    registry["one"] = dataclasses.replace(registry["one"], title="Another title")
    assert [each.value for each in metrics.of(vae).values()] == [2, 1] and len(calls) == 2
    registry["one"] = dataclasses.replace(registry["one"], of={"which": 3})
    assert metrics.of(vae)["one"].value == 3 and calls == [2, 1, 3]
    metrics.of(dataclasses.replace(vae, digest="another"), ["two"])
    assert calls == [2, 1, 3, 2]


def test_a_run_without_a_metric_is_not_asked_twice(vae, counted, empty_cache):
    registry, calls = counted
    registry["one"] = dataclasses.replace(registry["one"], of={"which": "none"})
    for _ in range(2):
        assert list(metrics.of(vae)) == ["two"]
    assert calls == ["none", 2]
    registry["two"] = dataclasses.replace(registry["two"], applies=metrics.no_run)
    assert metrics.of(vae) == {}


def test_an_unknown_name_and_a_run_of_all_betas_are_refused(vae, toy, empty_cache):
    with pytest.raises(ValueError, match="no metric is called fids"):
        metrics.of(vae, ["fids"])
    with pytest.raises(ValueError, match=r"metrics.of\(run.at\(beta\)\)"):
        metrics.of(toys.run(toy, "multi_rate"))


# --- all of it, on toys ---


@pytest.fixture
def quick(monkeypatch):
    """Fewer groups and draws; both decide intervals alone."""
    few_groups = functools.partial(intervals.jackknife_ci, groups=3)
    monkeypatch.setattr(samples, "jackknife_ci", few_groups)
    for count in probes.COUNTS:
        monkeypatch.setitem(probes.COUNTS, count, 2)


def test_all_metrics_of_a_run_and_each_part_once(vae, toy, empty_cache, quick, monkeypatch):
    """The encoder gets the held-out images once, and the training images for probes and mixture."""
    seen = []
    hook = vae.model.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        measured = metrics.of(vae)
    finally:
        hook.remove()
    of_test = [part for part in seen if torch.equal(part, toy.test_images)]
    assert len(of_test) == 1
    # Twice for mixtures, once for probes, and the last ones for the decoder's variance.
    assert sum(map(len, seen)) == len(toy.test_images) + 4 * len(toy.train_images)

    applying = [name for name, metric in METRICS.items() if metric.applies(vae.recipe)]
    # An untrained network is softer than the error at which models are compared.
    assert set(measured) == set(applying) - {"extra_strokes_0.5_matched"}
    assert all(each.low <= each.value <= each.high for each in measured.values())
    direct = vae.decode(vae.encode(toy.test_images))
    expected = (direct - toy.test_images).square().mean().item()
    assert measured["mse_mean"].value == pytest.approx(expected, rel=1e-5)
    held_out = vae.history.held_out[-1]
    assert measured["mse_sample"].value == pytest.approx(held_out["reconstruction"], rel=1e-5)
    assert measured["rate"].value == pytest.approx(6 * held_out["kl"], rel=1e-5)
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "measure", None)
        assert metrics.of(vae) == measured


def test_a_part_is_computed_once_for_each_of_its_arguments(toy, vae):
    record = Record(toy, vae, given={("samples", "mixture"): lambda: torch.zeros(1)})
    assert samples.samples(record, "prior") is samples.samples(record, "prior")
    assert samples.samples(record, "mixture").tolist() == [0]
    assert record.codes() is record.posterior().mean is record.codes()
    with pytest.raises(ValueError, match="real images have none"):
        ControlRecord(toy, "real").codes()


def test_an_autoencoder_s_sampled_codes_are_its_codes(toy):
    run = toys.run(toy, "ae")
    record = Record(toy, run)
    assert record.sampled_codes() is record.codes()
    assert torch.equal(record.codes(), run.encode(toy.test_images))
    assert not {"rate", "elbo", "rate_at_end"} & set(metrics._wanted(run.recipe, None))


def test_the_baseline_is_that_of_the_content(empty_cache, quick):
    """Two sets with one name and size, but other pixels."""
    first, second = (metrics.of_real(toys.dataset(seed=seed)) for seed in (0, 1))
    assert set(first) == set(second) == {*metrics.JUDGED, "accuracy"}
    assert first["fid_prior"].value != second["fid_prior"].value
    assert first["accuracy"].value == 1


def test_the_baseline_holds_one_half_of_the_held_out_images_against_the_other(toy):
    record = ControlRecord(toy.first(3), "real")
    halves = record.images, samples.samples(record, "prior")
    assert [len(half) for half in halves] == [100, 100]
    both = {tuple(image.flatten().tolist()) for half in halves for image in half}
    assert both == {tuple(image.flatten().tolist()) for image in toy.test_images}


def test_probes_of_grey_levels_and_principal_components(empty_cache, quick, monkeypatch):
    toy = toys.dataset(100, 50)
    monkeypatch.setattr(probes, "COMPONENTS", 8)
    pixels, components = (metrics.of_baseline(toy, kind) for kind in ("pixels", "components"))
    of_probes = {name for name, metric in METRICS.items() if metric.section == "probes"}
    assert set(components) == of_probes
    assert set(pixels) == {name for name in of_probes if "noise" not in name}
    assert pixels["probe_all"].value == 1
    codes = probes.principal_components(toy.train_images, toy.test_images, 8)
    codes, test_codes = probes.scaled(*codes)
    direct = probes.all_labels("knn", codes, toy.train_labels, test_codes, toy.test_labels)
    assert components["knn_all"].interval == pytest.approx(direct.interval)
    with pytest.raises(ValueError, match="pixels or components"):
        metrics.of_baseline(toy, "codes")


def test_rate_and_distortion_of_a_multi_rate_run(toy, empty_cache):
    run = toys.run(toy, "multi_rate")
    with torch.no_grad():
        run.model.log_threshold.fill_(0)
        run.model.encoder[-1].bias[:6] += 1  # a rate that the gates change
    curve = metrics.curve(run, [0.001, 0.5])
    first, second = curve.values()
    for beta, point in curve.items():
        names = ["mse_mean", "mse_sample", "rate", "active_units"]
        at_beta = run.at(beta)
        at_beta.__dict__["dataset"] = toy
        for name, estimate in metrics.of(at_beta, names).items():
            assert estimate.interval == pytest.approx(point[name].interval, rel=1e-5)
    assert "rate_step" not in first
    for name in ("mse", "rate"):
        at = "rate" if name == "rate" else "mse_sample"
        step = second[at].value - first[at].value
        assert second[f"{name}_step"].value == pytest.approx(step, rel=1e-4)
    # Paired: far narrower than the difference of two independent estimates.
    apart = intervals.difference(
        *(Estimate(*point["mse_sample"].interval) for point in (second, first))
    )
    step = second["mse_step"]
    assert step.high - step.low < 0.5 * (apart.high - apart.low)
    assert metrics.curve(run, [0.001, 0.5]) == curve


# --- the rate in training ---


def test_growth_of_the_rate(toy):
    run = toys.run(toy, steps=400)  # two epochs; 0.01 a step and latent
    record = Record(toy, run)
    last = 6 * (1 + 0.01 * np.arange(200, 400)).mean()
    assert curves.measure_rate_slope(record).value == pytest.approx(6 * 0.01 * 200 / last)
    half, end = (curves.measure_rate_at(record, when).value for when in ("half", "end"))
    rate = 6 * (1 + 0.01 * np.arange(400))
    assert half == pytest.approx(rate[190:212].mean()) and end == pytest.approx(rate[378:].mean())


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_training_of_few_steps_has_its_rate_too(toy, steps):
    values = np.arange(steps, dtype=float)
    for start in (-3, 0, steps):
        estimate = curves.window_mean(values, start, 4)
        assert np.isnan(estimate.value) if steps == 1 else estimate.value == values.mean()
    run = toys.run(toy, steps=2)
    no_curve = dataclasses.replace(run.history, reconstruction=[], kl=[])
    record = Record(toy, dataclasses.replace(run, history=no_curve))
    assert curves.measure_rate_slope(record) is curves.measure_rate_at(record, "end") is None


def test_a_part_takes_no_keywords_so_that_two_parts_are_never_taken_for_one():
    with pytest.raises(TypeError, match="by position"):
        samples.samples(Record.__new__(Record), source="prior")
