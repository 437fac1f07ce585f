"""Controls: what they are, and that a measure which ranks one wrongly is found out."""

import dataclasses

import pytest
import torch
import toys

from vae_nb import archive, metrics, report
from vae_nb.metrics import CONTROLS, JUDGED, METRICS, classifier, controls, samples
from vae_nb.metrics.intervals import exactly
from vae_nb.report.tables import controls_table, decides


@pytest.fixture(scope="module")
def toy():
    return toys.dataset(train=400, test=400)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_made_of_the_half_that_nothing_is_compared_with(name, toy):
    record = controls.ControlRecord(toy, name)
    made = samples.samples(record, "prior")
    assert made.shape == record.images.shape == (200, 1, 28, 28)
    assert made.dtype == torch.float32 and 0 <= made.min() <= made.max() <= 1
    apart = torch.cdist(made.flatten(1), record.images.flatten(1))
    assert apart.min() > 0.1  # no picture is one of those that it is compared with


def test_controls_are_what_they_are_called(toy):
    images, labels = toy.test_images[:200], toy.test_labels[:200]
    made = {name: each.make(images, labels, toy) for name, each in CONTROLS.items()}
    assert torch.equal(made["real"], images)
    assert torch.equal(made["training"], toy.train_images[:200])
    assert torch.equal(made["copies"][7], images[0]) and made["mean"].std(0).max() < 1e-6
    assert made["class_means"].unique(dim=0).shape[0] == 10
    same = torch.cdist(made["without_a_class"].flatten(1), images.flatten(1)).argmin(1)
    assert set(labels[same].tolist()) == set(range(9))
    assert made["thin"].mean() < images.mean() < made["thick"].mean()
    # Phases shuffled: the power spectrum stays (but for what is clipped to [0, 1]).
    assert made["phases"].mean().item() == pytest.approx(images.mean().item(), rel=0.5)
    upper = torch.arange(28)[:, None] + torch.arange(28) < 28
    assert torch.equal(made["halves"][:, :, upper], images[:, :, upper])
    assert not torch.equal(made["halves"][:, :, ~upper], images[:, :, ~upper])


def test_a_measure_must_rank_every_control_right():
    asks = controls.LIKE
    values = {
        name: exactly(10.0 - 5 * each.known[asks] + 0.1 * place)
        for place, (name, each) in enumerate(CONTROLS.items())
        if asks in each.known
    }
    assert controls.ranks_right(asks, "lower", values)
    assert not controls.ranks_right(asks, "higher", values)
    for name, wrong in (("thin", 12.0), ("components", 4.9), ("training", 5.9)):
        assert not controls.ranks_right(asks, "lower", values | {name: exactly(wrong)})


def test_no_claim_hangs_on_a_measure_that_ranks_a_control_wrongly():
    tried = archive.read().controls
    assert set(tried) == set(CONTROLS)
    right = {name for name in JUDGED if decides(name, tried)}
    assert {"recognised_prior", "fid_prior", "coverage_prior", "sharpness_prior"} <= right
    wrong = {name.replace("_prior", "") for name in set(JUDGED) - right}
    read = {
        path.partition(".")[2]
        .replace("_mixture_100", "")
        .replace("_mixture", "")
        .replace("_prior", "")
        for claim in report.CLAIMS
        for each in claim.criteria
        for path in each.read.reads
    }
    assert not wrong & read
    table = controls_table(tried)
    assert table.count("**no**") == len(wrong) and table.count("\n") == len(CONTROLS) + 3


def test_the_judge_is_tried_on_pictures_of_other_kinds_than_it_was_fitted_to():
    """Halves are cut along rows and columns in training, along the diagonal in the controls."""
    tried = archive.read().controls
    shown = {name: numbers["recognised_prior"].value for name, numbers in tried.items()}
    assert min(shown[n] for n in ("real", "thin", "thick", "rotated", "blurred")) > 0.85
    assert max(shown[n] for n in ("mean", "class_means", "components", "phases", "halves")) < 0.2


def test_the_judge_is_fitted_by_the_code_of_no_control(toy, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("fitted to a control")

    for name, control in CONTROLS.items():
        monkeypatch.setitem(CONTROLS, name, dataclasses.replace(control, make=refuse))
    own = [
        n for n, f in vars(controls).items() if getattr(f, "__module__", "") == controls.__name__
    ]
    for name in own:
        if name.startswith("_"):
            monkeypatch.setattr(controls, name, refuse)
    with pytest.raises(AssertionError, match="fitted to a control"):
        controls._halves(toy.test_images, toy.test_labels, toy)
    classifier._fit(dataclasses.replace(toy, train_images=toy.train_images[:256]), epochs=1)


@pytest.mark.parametrize("make", classifier.MADE)
def test_no_made_picture_is_cut_along_the_diagonal(make, toy):
    sources = toy.train_images[:80].unflatten(0, (4, 20))
    pictures = make(sources, torch.Generator().manual_seed(0))
    upper = torch.arange(28)[:, None] + torch.arange(28) < 28
    for first in sources:
        for second in sources:
            halves = torch.where(upper, first, second)
            differ = (first != second).flatten(1).any(1)
            assert not ((pictures == halves).flatten(1).all(1) & differ).any()


def test_controls_are_measured_by_the_measures_of_samples():
    assert {METRICS[name].asks for name in JUDGED} == {
        *(controls.SHOWS, controls.VARIED, controls.LIKE, controls.SHARP, controls.NEW)
    }
    assert all(name in metrics.METRICS for name in JUDGED)
