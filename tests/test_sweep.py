"""The sweep is whole, goes on after a kill, and the archive that it made is told from others."""

import dataclasses
import json
import math
import os
import resource
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from vae_nb import archive, store, sweep
from vae_nb.evaluation import measure
from vae_nb.evaluation.interval import Measured
from vae_nb.training import recipe

QUICK = {"images": 512, "epochs": 1}
BETAS = (0.1,)


def test_the_grid_has_every_model_for_every_seed():
    recipes = sweep.grid()
    assert len(recipes) == len(set(recipes)) == 3 * (len(sweep.BETAS) + 2)
    asked = {0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 1, 10}
    assert asked <= {each.beta for each in recipes if each.model == "vae"}
    assert {each.seed for each in recipes if each.model == "ae"} == {0, 1, 2}
    # Seed by seed, so that a sweep that was stopped has whole ones.
    assert [each.seed for each in recipes] == sorted(each.seed for each in recipes)


@pytest.fixture
def rows_made(monkeypatch):
    """Rows without their cost, and the recipes that were asked for."""
    calls = []

    def made(recipe):
        calls.append(recipe)
        if len(calls) == made.killed_at:
            raise KeyboardInterrupt
        return {
            "recipe": recipe.as_dict(),
            "beta": recipe.beta,
            "measured": {"mse_sample": [0.1 + recipe.beta, 0.09, 0.2]},
            "pictures": {},
            "made": {"seconds": 2.0, "measuring": 1.0},
            "code": sweep.code(recipe),
        }

    made.killed_at = 0
    monkeypatch.setattr(sweep, "row", made)
    made.calls = calls
    return made


def test_a_sweep_that_was_stopped_goes_on(rows_made, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "table.json"
    arguments = ["--betas", "0", "0.1", "--seeds", "0", "1", "--output", str(out)]
    rows_made.killed_at = 4
    assert sweep.main(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().err and not out.exists()
    assert len(rows_made.calls) == 4
    assert sweep.main(arguments) == 0  # three are kept, the fourth and the rest are made
    assert len(rows_made.calls) == 4 + 5
    assert sweep.main(arguments) == 0
    assert len(rows_made.calls) == 4 + 5
    table = json.loads(out.read_text())
    found = [(row["recipe"]["model"], row["recipe"]["seed"]) for row in table["runs"]]
    assert found == [(m, s) for m in ("ae", "vae", "vae", "sigma_vae") for s in (0, 1)]
    assert table["digest"] == archive.digest(table["runs"])
    assert table["seconds"] == 8 * 3
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--betas", "-1"], "beta = -1.0"),
        (["--epochs", "-3"], "epochs = -3"),
        (["--dataset", "CIFAR10"], "dataset = 'CIFAR10'"),
        (["--workers", "0"], "--workers 0"),
        (["--output", "/nowhere/table.json", "--betas", "0"], "/nowhere"),
    ],
)
def test_a_bad_argument_is_one_line(arguments, message, rows_made, capsys):
    assert sweep.main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("sweep: ") and message in error
    assert not rows_made.calls  # and nothing was trained for it


def test_a_dry_run_says_what_is_left(rows_made, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    monkeypatch.setattr(sweep, "seconds_needed", lambda _: 90.0)
    assert sweep.main(["--dry-run", "--betas", "0", "--seeds", "0"]) == 0
    out = capsys.readouterr().out
    assert "3 runs, 0 of them finished" in out and "about 90 s each" in out
    assert not rows_made.calls


@pytest.mark.slow
def test_a_row_is_the_run_measured(own_cache):
    each = recipe("vae", 0.1, **QUICK)
    row = sweep.row(each)
    run = store.fit(each)
    numbers = measure.measure(run, run.dataset) | measure.represent(run, run.dataset)
    assert row["measured"].keys() == numbers.keys()
    for name, values in row["measured"].items():
        assert values == pytest.approx(list(numbers[name]), rel=1e-5, nan_ok=True)
    assert row["recipe"] == each.as_dict() and row["beta"] == 0.1
    assert set(row["pictures"]) == {"reconstructions", "samples"}
    needed = sweep.seconds_needed(each)
    assert 1 < needed < 200


def test_a_picture_is_the_images_side_by_side(mnist):
    import base64
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(sweep.png(mnist.test_images[:3]))))
    pixels = np.asarray(picture) / 255
    assert pixels.shape == (28, 84)
    assert np.allclose(pixels[:, 28:56], mnist.test_images[1, 0], atol=0.51 / 255)


# --- dask ---


@pytest.fixture
def cluster(tmp_path, own_cache):
    """Two worker processes with a store of their own: no disk is shared with the client."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "classifiers").symlink_to(own_cache / "classifiers")  # fitted once for all tests

    folder = str(theirs)

    def with_its_own_store() -> None:
        own = Path(folder) / f"worker-{os.getpid()}"
        own.mkdir()
        (own / "classifiers").symlink_to(Path(folder) / "classifiers")
        os.environ["VAE_NB_CACHE"] = str(own)

    with sweep.connect("local", 2) as client:
        client.register_worker_callbacks(with_its_own_store)  # of the one in a dead one's place too
        yield client


@pytest.mark.slow
def test_workers_share_the_processors_and_keep_their_memory(cluster):
    def threads() -> int:
        return torch.get_num_threads()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(50):
            torch.ones(1024, 1024)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert set(cluster.run(threads).values()) == {max(1, os.cpu_count() // 2)}
    # 50 times 4 MiB are 51,200 pages; what was freed is used again.
    assert all(count < 25000 for count in cluster.run(faults).values())


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_only_its_run(cluster, tmp_path, monkeypatch, run, mnist):
    measure.classifier(mnist)  # in the tests' own store, which the workers see by a link
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "mine"))
    recipes = sweep.grid(BETAS, [0], **QUICK)
    victim = next(iter(cluster.run(os.getpid).values()))
    killed = []

    def kill_in_mid_run():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            busy = [len(tasks) for tasks in cluster.processing().values()]
            if sum(busy) and all(busy):
                time.sleep(3)
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
                return
            time.sleep(0.1)

    thread = threading.Thread(target=kill_in_mid_run)
    thread.start()
    rows = list(sweep.sweep(recipes, cluster))
    thread.join()
    assert killed and victim not in cluster.run(os.getpid).values()
    assert {json.dumps(row["recipe"]) for row in rows} == {
        json.dumps(each.as_dict()) for each in recipes
    }
    # The dead worker's run was made again and nothing else: all were fitted once, that one perhaps
    # twice.
    fitted = list((tmp_path / "theirs").glob("**/runs/*/recipe.json"))
    assert len(recipes) <= len(fitted) <= len(recipes) + 1
    # Kept on this side, as soon as each came in: nothing is asked of the cluster again.
    again = list(sweep.sweep(recipes, None))
    assert len(again) == len(rows) and not (tmp_path / "mine" / "runs").exists()


def test_a_worker_with_another_version_is_refused(rows_made, monkeypatch):
    each = recipe("vae", 0.1, **QUICK)
    row = rows_made(each) | {"code": "another"}

    class Future:
        release = staticmethod(lambda: None)
        result = staticmethod(lambda: row)

    class Cluster:
        submit = staticmethod(lambda *_, **__: Future)

    monkeypatch.setattr("dask.distributed.as_completed", list)
    with pytest.raises(RuntimeError, match="another version of vae_nb"):
        list(sweep._on(Cluster, [each]))


# --- the archive ---


@pytest.fixture
def kept() -> archive.Archive:
    return archive.load()


def test_the_archive_is_a_sweep_at_the_defaults(kept):
    """A changed default recipe wants a new sweep."""
    found = {row.recipe for row in kept.rows}
    assert found == set(sweep.grid())
    names = {name for row in kept.rows for name in row.measured}
    assert {"mse_sample", "rate", "fid_prior", "precision_prior", "probe_all", "ssim"} <= names
    assert all(row.made["seconds"] > 1 and row.pictures for row in kept.rows)


SHARES = ("same_label", "confident", "balance", "precision", "recall", "probe", "knn")


def test_the_archive_holds_measurements(kept):
    """Nothing that cannot be, and no seed that is another one in disguise."""
    for row in kept.rows:
        for name, (value, low, high) in row.measured.items():
            assert low <= value <= high or math.isnan(value)
            if name.startswith(SHARES):
                assert 0 <= value <= 1, name
        assert row.measured["active_units"].value in range(65)
    for beta in kept.betas:
        rows = kept.of("vae", beta)
        assert len({row.pictures["samples"] for row in rows}) == len(rows)
        assert len({row.made["finished"] for row in rows}) == len(rows)
        first, second = (
            np.array([m.value for m in row.measured.values() if m.value]) for row in rows[:2]
        )
        if beta <= 0.2:
            assert np.std(first[:20] / second[:20]) > 1e-3


def test_an_edited_archive_is_refused(tmp_path):
    text = archive.ARCHIVE.read_text()
    edited = tmp_path / "archive.json"
    edited.write_text(text.replace('"fid_prior": [', '"fid_prior": [1', 1))
    with pytest.raises(ValueError, match="damaged.*python -m vae_nb.sweep"):
        archive.load(edited)


def test_numbers_over_seeds_are_those_of_the_rows(kept):
    values = [row.measured["fid_prior"].value for row in kept.of("vae", 0.1)]
    over = kept.over_seeds("vae", 0.1, "fid_prior")
    assert len(values) == 3 and over.value == pytest.approx(sum(values) / 3)
    assert over.high - over.value > stats.sem(values) * 4.30  # t of two degrees of freedom
    curve = kept.against_beta("fid_prior")
    assert list(curve) == sorted(sweep.BETAS)
    assert curve[kept.best("fid_prior")].value == min(each.value for each in curve.values())
    low, high = kept.crossing("rate", 1.0)
    assert curve.keys() >= {low, high}
    rate = kept.against_beta("rate", at_least=low)
    assert rate[low].value >= 1.0 > rate[high].value


def test_distortion_rises_and_rate_falls_with_beta(kept):
    """What no trained model may contradict by much, if it is near its optimum."""
    betas = [beta for beta in kept.betas if beta > 0]
    rates = [kept.over_seeds("vae", beta, "rate").value for beta in betas]
    errors = [kept.over_seeds("vae", beta, "mse_sample").value for beta in betas]
    assert rates == sorted(rates, reverse=True)
    assert all(b > 0.98 * a for a, b in zip(errors, errors[1:], strict=False))


def archived_run(kept, seed: int = 0):
    """The first archived run, as if it were live."""
    (row,) = (each for each in kept.of("vae", 0.1) if each.recipe.seed == seed)
    return store.Run(row.recipe, None, None, {}, ""), row.measured


def test_a_live_run_stands_for_its_own_seed(kept):
    run, measured = archived_run(kept, seed=1)
    live = {"this": dict(measured) | {"fid_prior": Measured(0.0, 0.0, 0.0)}, "floor": {}}
    first, *others = archive.seeds(live, {"this": run})
    assert first is live and len(others) == 2
    found = [evidence["this"]["fid_prior"] for evidence in others]
    rows = {row.recipe.seed: row.measured["fid_prior"] for row in kept.of("vae", 0.1)}
    assert found == [rows[0], rows[2]]


def test_a_seed_counts_if_it_is_there_for_every_role(kept):
    run, measured = archived_run(kept)
    longer = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, epochs=7))
    evidence = {"this": measured, "ae": measured}
    assert len(archive.seeds(evidence, {"this": run, "ae": run})) == 3
    assert archive.seeds(evidence, {"this": longer, "ae": run}) == [evidence]
    # Nor does one whose row lacks a number that this build has.
    more = dict(measured) | {"new": Measured(1, 1, 1)}
    assert len(archive.seeds({"this": more}, {"this": run})) == 1
    assert archive.strays(longer, measured) == {}


def test_a_stray_is_named(kept):
    run, measured = archived_run(kept)
    assert archive.strays(run, measured) == {}
    value = 3 * measured["fid_prior"].value
    found = archive.strays(run, dict(measured) | {"fid_prior": Measured(value, value, value)})
    assert list(found) == ["fid_prior"]
    assert found["fid_prior"][1].high < value


def test_a_collapsed_model_is_asked_for_its_error_and_rate_only(kept):
    (row, *_) = kept.of("vae", 10.0)
    run = store.Run(row.recipe, None, None, {}, "")
    flipped = dict(row.measured) | {"confident_prior": Measured(0.0, 0.0, 0.0)}
    assert archive.strays(run, flipped) == {}
    revived = flipped | {"rate": Measured(3.0, 3.0, 3.0)}
    assert list(archive.strays(run, revived)) == ["rate"]


def test_a_stray_is_on_the_page(kept, capsys):
    from vae_nb import answers

    run, measured = archived_run(kept)
    answers.show_basis({"this": measured}, {"this": run})
    assert "over 3 trainings" in capsys.readouterr().out
    far = dict(measured) | {"rate": Measured(500.0, 500.0, 500.0)}
    answers.show_basis({"this": far}, {"this": run})
    assert "rate is 500, outside of what the archive expects" in capsys.readouterr().out
    longer = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, epochs=7))
    answers.show_basis({"this": far}, {"this": longer})
    out = capsys.readouterr().out
    assert "for one training" in out and "outside" not in out


def test_the_archive_is_in_the_package():
    assert archive.ARCHIVE.parent == Path(archive.__file__).parent
    assert archive.ARCHIVE.stat().st_size < 2**20
