"""Densities of codes: what they draw, against distributions that are known."""

from __future__ import annotations

import base64
import dataclasses
import io
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import toys
from sklearn.mixture import GaussianMixture

from vae_nb import cache, data, densities, metrics, runs
from vae_nb.metrics.intervals import Estimate, exactly
from vae_nb.models import sampled_codes
from vae_nb.recipe import recipe
from vae_nb.report import repairs

TRAINED = ("second_vae", "flow")


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    """Two far clusters in four dimensions, the second three times as often, off the origin."""
    noise = toys.noise(4000, 4)
    mixing = torch.tensor([[1.0, 0.8, 0, 0], [0, 0.5, 0, 0], [0, 0, 0.3, 0], [0, 0, 0, 1]])
    centres = torch.where(torch.arange(4000)[:, None] % 4 > 0, 6.0, -6.0)
    return noise @ mixing + centres + 20


@pytest.mark.parametrize("name", [name for name in densities.DENSITIES if name != "prior"])
def test_a_density_has_mean_and_covariance_of_the_codes(name, codes, monkeypatch):
    monkeypatch.setattr(densities, "CLUSTERS", 20)
    monkeypatch.setattr(densities, "HIDDEN", 64)
    monkeypatch.setattr(densities, "BATCH", 100)
    drawn = densities.fit(name, codes, seed=3)(20_000, 1)
    assert drawn.shape == (20_000, 4)
    spread = codes.std(0)
    loose = 3 if name in TRAINED else 1
    assert ((drawn.mean(0) - codes.mean(0)) / spread).abs().max() < 0.06 * loose
    gap = (torch.cov(drawn.T) - torch.cov(codes.T)) / spread.outer(spread)
    assert gap.abs().max() < 0.1 * loose


def likelihood_ratio(drawn: torch.Tensor, codes: torch.Tensor) -> float:
    """How much less likely the draws are than codes, in nats, by scikit-learn's own mixture."""
    judge = GaussianMixture(2, random_state=0).fit(codes.numpy())
    return judge.score(codes.numpy()) - judge.score(drawn.numpy())


def test_all_but_one_gaussian_keep_clusters_apart(codes, monkeypatch):
    monkeypatch.setattr(densities, "CLUSTERS", 20)
    monkeypatch.setattr(densities, "HIDDEN", 64)
    monkeypatch.setattr(densities, "BATCH", 100)
    gaps = {
        name: likelihood_ratio(densities.fit(name, codes, seed=0)(4000, 0), codes)
        for name in ("gaussian", "mixture_10", "clusters", "flow")
    }
    assert gaps["gaussian"] > 3
    assert abs(gaps["mixture_10"]) < 0.5 and abs(gaps["clusters"]) < 0.6
    assert gaps["flow"] < gaps["gaussian"] / 2


def test_a_clusters_covariance_is_shrunk_towards_that_within_all(monkeypatch):
    """Three codes of one shape and 200 of another, mixed; the shared covariance counts for 30."""
    label = np.zeros(203, int)
    label[[5, 90, 150]] = 1
    shapes = torch.tensor([[1.0, 1.0, 0.1], [0.2, 0.5, 1.0]])
    codes = toys.noise(203, 3) * shapes[label] + 40.0 * torch.from_numpy(label)[:, None]
    fixed = SimpleNamespace(fit_predict=lambda codes: label)
    monkeypatch.setattr("sklearn.cluster.MiniBatchKMeans", lambda count, **_: fixed)
    monkeypatch.setattr(densities, "CLUSTERS", 2)
    drawn = densities.fit("clusters", codes)(400_000, 1)
    of_second = drawn[:, 0] > 20
    assert of_second.float().mean().item() == pytest.approx(3 / 203, rel=0.05)
    parts = [codes[label == each] for each in (0, 1)]
    scatters = [(part - part.mean(0)).T @ (part - part.mean(0)) for part in parts]
    shared = sum(scatters) / 203
    for part, scatter, draws in zip(
        parts, scatters, (drawn[~of_second], drawn[of_second]), strict=True
    ):
        right = (scatter + 30 * shared) / (len(part) + 30)
        spread = right.diagonal().sqrt()
        assert (draws.mean(0) - part.mean(0)).abs().max() < 0.05
        gap = (torch.cov(draws.T) - right) / torch.outer(spread, spread)
        assert gap.abs().max() < 0.07


@pytest.mark.parametrize("name", [name for name in densities.DENSITIES if name != "mixture_300"])
def test_the_same_seeds_fit_and_draw_the_same_codes(codes, name, monkeypatch):
    monkeypatch.setattr(densities, "EPOCHS", 1)
    one, again, other = (densities.fit(name, codes[:500], seed) for seed in (0, 0, 1))
    assert torch.equal(one(50, 3), again(50, 3))
    assert not torch.equal(one(50, 3), one(50, 4))
    if name not in ("prior", "gaussian"):  # their fit has nothing random
        assert not torch.equal(one(50, 3), other(50, 3))


def test_a_repair_changes_the_draw_alone_and_is_measured_as_samples_are(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    data = toys.dataset()
    run = toys.run(data)
    plain = densities.repair(run, "prior")
    assert torch.equal(plain.samples(20, 0), metrics.samples.from_prior(run, 20, 0))
    names = ("fid_prior", "recognised_prior", "novelty_prior")
    assert densities.measure(plain, names) == metrics.measure(metrics.Record(data, run), names)
    monkeypatch.setattr(metrics, "measure", lambda *_: pytest.fail("it is measured again"))
    assert densities.measure(densities.repair(run, "prior"), names).keys() == set(names)
    for change in ({"name": "gaussian"}, {"run": dataclasses.replace(run, digest="other")}):
        given = {"run": run, "name": "prior"} | change
        assert densities.repair(**given).place != plain.place
    local = densities.repair(run, "clusters").place
    monkeypatch.setattr(densities, "CLUSTERS", 3)
    assert densities.repair(run, "clusters").place != local
    monkeypatch.undo()
    decoded = run.decode(sampled_codes(run, data.test_images))
    record = metrics.Record(data, run, {("samples", "prior"): lambda: decoded})
    assert densities.own_codes(run, names) == metrics.measure(record, names)


@pytest.mark.parametrize(
    ("name", "codes", "message"),
    [
        ("mixture_100", toys.noise(99, 3), "100 Gaussians cannot be fitted to 99 codes"),
        ("clusters", toys.noise(20, 3), "cannot be fitted to 20 codes"),
        ("gaussian", torch.ones(50, 3), "all 50 codes are the same"),
        ("gaussian", torch.full((50, 3), float("nan")), "not finite"),
        ("copula", toys.noise(50, 3), "density = 'copula' is not allowed: one of prior, "),
    ],
)
def test_bad_input_is_one_clear_line(name, codes, message):
    with pytest.raises(ValueError) as caught:
        densities.fit(name, codes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_density_that_diverges_says_so():
    run = toys.run(toys.dataset())
    gone = densities.Repair(run, "flow", lambda count, seed: torch.full((count, 6), torch.inf), 0.0)
    with pytest.raises(FloatingPointError, match="a flow has diverged"):
        gone.samples(3)


def test_the_package_brings_what_its_page_measures():
    """Else a preview would measure it: run `vae-nb preview --archive` after a build of the page."""
    for key in (("ae", 0.0), ("sigma_vae", 0.0), ("vae", 0.1)):
        name = densities.place(runs.digest(recipe(*key)), "clusters")
        shown = densities.SHOWN if key[0] == "ae" else ("recognised_prior",)
        wanted = [f"{metric}-{metrics.METRICS[metric].identity}" for metric in shown]
        assert cache.is_cached(runs.CARRIED / "measured" / name, wanted)


def test_the_archive_has_every_measure_of_each_row():
    rows = densities.archived()
    assert {"real", "clusters", "own_codes"} <= set(rows["ae"])
    for by_density in rows.values():
        for row in by_density.values():
            assert set(row["measured"]) == set(densities.SHOWN) and row["seconds"] >= 0
            assert all(each.low <= each.value <= each.high for each in row["measured"].values())


def test_each_row_of_the_autoencoder_has_a_picture_of_24_samples_under_its_title():
    pictures = repairs.pictures("ae")
    assert {density.title for density in densities.DENSITIES.values()} < pictures.keys()
    real = plt.imread(io.BytesIO(base64.b64decode(pictures["real images"][0])))
    expected = data.load("MNIST").test_images[:24, 0]
    assert real.shape == (2 * 28, 12 * 28)  # the first one of the second line:
    assert np.allclose(real[28:, :28], expected[12], atol=0.51 / 255)
    assert len({picture for each in pictures.values() for picture in each}) == len(pictures)


# --- what the page says of them ---


def archive(fid: float, recall: float) -> dict:
    def measured(fid: float, recall: float) -> dict[str, Estimate]:
        numbers = dict.fromkeys(densities.SHOWN, exactly(0.9))
        return numbers | {"fid_prior": exactly(fid), "recall_prior": exactly(recall)}

    rows = {"prior": (500, 0.1), "clusters": (fid, recall), repairs.OWN: (1.5, 0.97)}
    rows |= {repairs.REAL: (1.7, 0.88), repairs.TRAIN: (2.4, 0.79)}
    return {"ae": {k: {"measured": measured(*v), "seconds": 5.0} for k, v in rows.items()}}


@pytest.mark.parametrize(
    ("fid", "recall", "said"),
    [
        (4.5, 0.80, "Both are reached by local Gaussians"),
        (4.5, 0.70, "The FID is reached by local Gaussians, the recall by none: it is 70"),
        (5.002, 0.80, "Both are reached by local Gaussians"),  # the table says 5
        (5.04, 0.80, "No repair reaches that FID"),
        (7.5, 0.80, "No repair reaches that FID"),
    ],
)
def test_the_page_says_whether_a_repair_reaches_what_was_asked_for(fid, recall, said, monkeypatch):
    rows = archive(fid, recall)
    monkeypatch.setattr(densities, "archived", lambda: rows)
    assert said in " ".join(repairs.best("ae").split())
    assert "have an FID of 1.5" in repairs.best("ae")
    assert ("a recall of 79" in repairs.best("ae")) == ("by none" in said)
    lines = repairs.repairs_table("ae").splitlines()
    assert f"| 90 / {100 * recall:.0f}\u00a0% | 90 / 90\u00a0% |" in lines[3]
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        "N(0, I)",
        "local Gaussians",
        "training images’ own codes",
        "held-out images’ own codes",
        "real images",
    ]


@pytest.mark.parametrize(
    ("recall", "would"), [(0.79, "perfect density would"), (0.7, "none would")]
)
def test_the_page_says_whether_any_density_could(recall, would, monkeypatch):
    rows = archive(4.5, 0.7)
    rows["ae"][repairs.TRAIN]["measured"]["recall_prior"] = exactly(recall)
    monkeypatch.setattr(densities, "archived", lambda: rows)
    assert would in repairs.best("ae")


def test_the_page_says_what_is_the_decoders_and_which_model_gains_most(monkeypatch):
    rows = archive(5, 0.8)
    monkeypatch.setattr(densities, "archived", lambda: rows)
    assert "no decoder is the limit" in repairs.decoders() and "gain" not in repairs.decoders()
    rows["0.1"] = archive(60, 0.1)["ae"]
    rows["0.1"][repairs.TRAIN]["measured"]["fid_prior"] = exactly(27)
    assert "largest gain is that of AE: from 500 to 5." in repairs.decoders()
    assert "For β = 0.1 even" in repairs.decoders() and "up to the 60 of" in repairs.decoders()


@pytest.mark.parametrize(
    ("share", "said"), [(1.0, "no nearer"), (0.95, "slightly nearer"), (0.8, "part of what looks")]
)
def test_the_page_says_whether_samples_are_copies(share, said, monkeypatch):
    rows = archive(5, 0.8)
    monkeypatch.setattr(densities, "archived", lambda: rows)
    assert said in repairs.memory({"novelty_prior": exactly(0.9 * share)})
