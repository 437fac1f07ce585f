"""The sweep is whole, resumes after a kill, and a dry run of it leaves no trace."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import resource
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vae_nb import archive, cache, metrics, report, runs, thumbnails
from vae_nb.__main__ import main
from vae_nb.commands import sweep
from vae_nb.metrics.classifier import classifier
from vae_nb.metrics.intervals import Estimate
from vae_nb.recipe import recipe

QUICK = {"train_images": 512, "epochs": 1}
BETAS = (0.1,)


def test_the_grid_has_every_model_for_every_seed():
    recipes = sweep.grid()
    assert len(recipes) == len(set(recipes)) == 3 * (len(sweep.BETAS) + 2)
    asked = {0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 1, 10}
    assert asked <= {each.beta for each in recipes if each.model == "vae"}
    assert {each.seed for each in recipes if each.model == "ae"} == {0, 1, 2}
    # Seed by seed, so that a sweep that was stopped has whole ones.
    assert [each.seed for each in recipes] == sorted(each.seed for each in recipes)


def test_the_archive_is_planned_seed_by_seed():
    plan = sweep.plan()
    assert len(plan) == len(set(plan)) == 10 * 6 + 3 * (len(sweep.grid()) // 3 - 6) + 5 * 6
    assert set(sweep.grid()) <= set(plan)
    course = [
        each for each in plan if each == recipe(each.model, each.beta, "course", seed=each.seed)
    ]
    assert {each.epochs for each in course} == {5, 11, 20} and len(course) == 30
    assert [each.seed for each in plan] == sorted(each.seed for each in plan)


def test_the_first_seeds_are_measured_whole_and_the_others_as_claims_need():
    first, later = (set(sweep.measured_of(recipe("ae", seed=seed))) for seed in (2, 3))
    assert first == set(metrics.METRICS)
    assert first - later == {n for n in first - report.reads("ae", 0.0) if slow(n)}
    assert "fid_mixture_100" not in sweep.measured_of(recipe("vae", 0.03))
    assert "probe_all" in sweep.measured_of(recipe("vae", 0.03))
    assert "probe_all" in later and "probe_all" not in sweep.measured_of(recipe("vae", 0.2, seed=3))


def slow(name: str) -> bool:
    return metrics.METRICS[name].section in ("densities", "probes")


def test_what_is_finished_can_be_written(rows_made, tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "table.json"
    monkeypatch.setattr(sweep, "plan", lambda: sweep.grid((0.1,), (0, 1)))
    list(sweep.sweep(sweep.grid((0.1,), (1,))))
    assert main(["sweep", "--finished", "--output", str(out)]) == 0
    assert len(rows_made.calls) == 3
    assert {row["recipe"]["seed"] for row in json.loads(out.read_text())["runs"]} == {1}


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
            "code": archive.code(recipe),
        }

    made.killed_at = 0
    monkeypatch.setattr(sweep, "row", made)
    monkeypatch.setattr(sweep, "controls", lambda: {})
    monkeypatch.setattr(sweep, "_archived", lambda: {})
    made.calls = calls
    return made


def test_a_sweep_that_was_stopped_resumes(rows_made, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "table.json"
    arguments = ["sweep", "--betas", "0", "0.1", "--seeds", "0", "1", "--output", str(out)]
    rows_made.killed_at = 4
    assert main(arguments) == 130
    assert "the same command resumes" in capsys.readouterr().err and not out.exists()
    assert len(rows_made.calls) == 4
    assert main(arguments) == 0  # three are kept; the fourth and the rest are computed
    assert len(rows_made.calls) == 4 + 5
    assert main(arguments) == 0
    assert len(rows_made.calls) == 4 + 5
    table = json.loads(out.read_text())
    found = [(row["recipe"]["model"], row["recipe"]["seed"]) for row in table["runs"]]
    assert found == [(m, s) for m in ("ae", "vae", "vae", "sigma_vae") for s in (0, 1)]
    assert table["digest"] == archive.digest(table)
    assert table["seconds"] == 8 * 3
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "table.json"}
    (first, *_) = archive.read(out).rows
    assert first.code == archive.code(first.recipe)
    assert archive.read(out).claims["tests"] == report.tests()


def test_archived_rows_of_todays_code_are_taken_and_others_made(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    monkeypatch.setattr(sweep, "row", lambda recipe: {"recipe": recipe.as_dict()})
    known, new = recipe("ae", seed=0), recipe("ae", seed=1000)
    assert sweep.unfinished([known, new]) == [new]
    archived, made = sweep.sweep([known, new])
    assert archived in json.loads(archive.ARCHIVE.read_text())["runs"]
    assert made == {"recipe": new.as_dict()}
    stale = archive.read().alike(known)
    monkeypatch.setattr(archive, "stale", lambda rows: stale)
    sweep._archived.cache_clear()
    assert sweep.unfinished([known]) == [known]
    sweep._archived.cache_clear()


def test_the_commit_of_the_tests_is_kept_while_they_are_the_same(monkeypatch):
    """Else rows that are measured later would move it behind the first measurements."""
    monkeypatch.setattr(sweep, "_last_commit_of_claims", lambda: "another")
    assert sweep.claims() == archive.read().claims
    monkeypatch.setattr(report, "tests", lambda: {"C1.1": []})
    assert sweep.claims() == {"commit": "another", "tests": {"C1.1": []}}


def test_a_row_of_other_code_is_computed_again(rows_made, tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    recipes = sweep.grid((), (0,), **QUICK)
    assert sweep.unfinished(recipes) == recipes
    list(sweep.sweep(recipes))
    assert sweep.unfinished(recipes) == []
    today = metrics.code(recipes[0])
    monkeypatch.setattr(metrics, "code", lambda _: today | {"samples": "another"})
    assert sweep.unfinished(recipes) == recipes


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
    assert main(["sweep", *arguments]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("vae-nb sweep: ") and message in error
    assert not rows_made.calls  # and nothing was trained for it


# --- a dry run ---


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_dry_run_changes_nothing(rows_made, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    tiny = {"width": 2, "batch_size": 8, "epochs": 1}
    (row, *_) = archive.load().rows
    row = dataclasses.replace(row, recipe=dataclasses.replace(row.recipe, **tiny))
    monkeypatch.setattr(archive, "read", lambda: archive.Archive([row], {}, ""))
    monkeypatch.setattr(sweep, "recipe", lambda *given, **changes: recipe(*given, **changes | tiny))
    arguments = ["sweep", "--betas", "0", "--seeds", "0", "1"]
    first, second, *_ = sweep.grid((0.0,), (0, 1))
    list(sweep.sweep([first, second]))
    (cache.folder() / "runs" / "damaged").mkdir(parents=True)
    damaged = next(path for path in (cache.folder() / "rows").iterdir() if path.suffix != ".lock")
    damaged.write_text("not what was written")
    before, calls = content(tmp_path), len(rows_made.calls)

    assert main([*arguments, "--dry-run"]) == 0
    assert content(tmp_path) == before and len(rows_made.calls) == calls
    out = capsys.readouterr().out
    assert "6 runs, 1 of them finished" in out and "min for the 5 that are left" in out

    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "empty"))
    assert main([*arguments, "--dry-run"]) == 0
    assert "6 runs, 0 of them finished" in capsys.readouterr().out
    assert not (tmp_path / "empty").exists()


def test_the_time_needed_scales_with_steps_and_machine(monkeypatch):
    row = next(row for row in archive.load().rows if row.recipe.model == "ae")
    per_step = row.made["seconds"] / sweep._steps(row.recipe)
    monkeypatch.setattr(sweep, "_seconds_per_step", lambda recipe: 2 * per_step)  # half as fast
    measuring = np.median([row.made["measuring"] for row in archive.read().rows])
    needed = sweep.seconds_needed(row.recipe)
    assert needed == pytest.approx(2 * (row.made["seconds"] + measuring))
    longer = dataclasses.replace(row.recipe, epochs=3 * row.recipe.epochs)
    assert sweep.seconds_needed(longer) == pytest.approx(needed + 4 * row.made["seconds"])


# --- a row ---


@pytest.mark.slow
def test_a_row_is_the_run_measured(own_cache):
    each = recipe("vae", 0.1, **QUICK)
    row = sweep.row(each)
    run = runs.fit(each)
    numbers = metrics.of(run)
    assert row["measured"].keys() == numbers.keys()
    for name, values in row["measured"].items():
        assert values[:3] == pytest.approx(list(numbers[name].interval), rel=1e-5, nan_ok=True)
        assert Estimate.read(values).parts == pytest.approx(numbers[name].parts, rel=1e-4)
    assert row["recipe"] == each.as_dict() and row["beta"] == 0.1
    assert row["pictures"] == thumbnails.pictures(run)
    assert row["code"] == {"weights": runs.code(each), "measures": metrics.code(run)}


def decoded(png: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) / 255


def test_a_picture_is_the_images_side_by_side(mnist):
    pixels = decoded(thumbnails.png(mnist.test_images[:3]))
    assert pixels.shape == (28, 84)
    assert np.allclose(pixels[:, 28:56], mnist.test_images[1, 0], atol=0.51 / 255)
    pixels = decoded(thumbnails.png(mnist.test_images[:6], lines=2))
    assert pixels.shape == (56, 84)
    assert np.allclose(pixels[28:, 28:56], mnist.test_images[4, 0], atol=0.51 / 255)


def test_pictures_show_reconstructions_and_samples(run):
    pictures = {what: decoded(png) for what, png in thumbnails.pictures(run).items()}
    assert list(pictures) == ["reconstructions", "samples"]
    originals = torch.cat(list(run.dataset.test_images[: thumbnails.SHOWN, 0]), dim=1).numpy()
    near, far = (np.mean((each - originals) ** 2) for each in pictures.values())
    assert near < far


# --- dask ---


@pytest.fixture
def cluster(tmp_path, own_cache):
    """Two worker processes with a cache of their own: no disk is shared with the client."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "classifiers").symlink_to(own_cache / "classifiers")  # fitted once for all tests

    folder = str(theirs)

    def with_its_own_cache() -> None:
        own = Path(folder) / f"worker-{os.getpid()}"
        own.mkdir()
        (own / "classifiers").symlink_to(Path(folder) / "classifiers")
        os.environ["VAE_NB_CACHE"] = str(own)

    with sweep.connect("local", 2) as client:
        client.register_worker_callbacks(with_its_own_cache)  # of the one in a dead one's place too
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
    classifier(mnist)  # in the tests' own cache, which the workers see by a link
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
    # The dead worker's run was computed again and nothing else: all were fitted once, that one
    # perhaps twice.
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
