"""A run is fitted once, is kept without a pickle, and its name has all that decides its weights."""

import dataclasses
import hashlib
import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vae_nb import cache, data, runs, training
from vae_nb.objective import beta_of_decoder_variance
from vae_nb.recipe import MODELS, recipe
from vae_nb.training import History

MULTI_RATE = MODELS["multi_rate"]
HISTORY = History([1.0], [1.0], [{"loss": 1.0, "reconstruction": 1.0, "mse_mean": 1.0, "kl": 1.0}])
SMALL = dict(width=4, latent_dim=8, epochs=1, train_images=256)


@pytest.fixture
def trainings(tmp_path, monkeypatch, mnist):
    """An empty cache, few images, and the recipes that were trained."""
    few = dataclasses.replace(mnist, test_images=mnist.test_images[:100], whole=None)
    calls = []
    original = training.train

    def counted(given, *arguments):
        calls.append(given)
        return original(given, *arguments)

    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "load", lambda name, images=None: few.first(images or 2000))
    monkeypatch.setattr(training, "train", counted)
    return calls


@pytest.fixture
def carried(tmp_path, monkeypatch):
    """The folder of what the package brings: empty at first."""
    monkeypatch.setattr(runs, "CARRIED", tmp_path / "carried")
    return tmp_path / "carried" / "runs"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_fitted_once_and_read_back_whole(trainings):
    given = recipe("vae", 0.1, **SMALL)
    assert not runs.is_fitted(given) and not cache.folder().exists()
    first, again = runs.fit(given), runs.fit(given)
    assert runs.is_fitted(given) and trainings == [given]
    weights, read = first.model.state_dict(), again.model.state_dict()
    assert weights.keys() == read.keys()
    assert all(torch.equal(weights[name], read[name]) for name in weights)
    assert again.history == first.history and again.made == first.made
    assert first.digest == runs.digest(given)
    assert not again.model.training
    runs.fit(recipe("vae", 0.2, **SMALL))
    assert len(trainings) == 2


INSTANT = dict(latent_dim=8, train_images=256)


def test_an_instant_run_begins_as_the_network_of_all_betas(trainings, carried, monkeypatch):
    given = recipe("vae", 0.3, "instant", **INSTANT)
    network = runs.fit(given.begins_as).model
    monkeypatch.setattr(training, "train", lambda *arguments: (arguments[4], HISTORY))
    run = runs.fit(given)  # as it begins, since nothing is trained
    noise = torch.randn(100, 8)
    images = run.dataset.test_images
    expected, _ = network.at(0.3)(images, noise)
    assert torch.allclose(run.model(images, noise)[0], expected, atol=1e-5)


@pytest.mark.parametrize(("share", "steps"), [(None, 4), (0.5, 2), (0.7, 3), (0.01, 1)])
def test_an_epoch_goes_over_a_share_of_the_images(trainings, share, steps):
    run = runs.fit(recipe("vae", 0.1, **SMALL, batch_size=64, share=share))
    assert run.history.steps_per_epoch == len(run.history.kl) == steps
    assert len(run.dataset.train_images) == 256  # by which it is measured


def test_who_fits_a_run_is_seen(trainings):
    given = recipe("vae", 0.1, **SMALL)
    assert not runs.is_being_fitted(given)
    with cache.locked(runs.folder() / runs.digest(given)):
        assert runs.is_being_fitted(given)
    assert not runs.is_being_fitted(given) and not runs.is_fitted(given)


def test_the_name_of_an_instant_run_has_how_it_begins(trainings, monkeypatch):
    given = recipe("vae", 0.3, "instant", **INSTANT)
    plain = dataclasses.replace(given, start=None)
    assert runs.digest(given) != runs.digest(plain)
    before = runs.digest(given), runs.digest(plain)
    epochs = {"default": {None: 9}}
    monkeypatch.setitem(MODELS, "multi_rate", dataclasses.replace(MULTI_RATE, epochs=epochs))
    assert runs.digest(given) != before[0] and runs.digest(plain) == before[1]


@pytest.mark.parametrize("damage", [None, "cut", "wrong", "missing"])
def test_an_archived_network_begins_and_a_damaged_one_is_trained_instead(
    trainings, carried, damage
):
    given = recipe("vae", 0.3, "instant", **INSTANT)
    network = runs.fit(given.begins_as)
    place = carried / network.digest
    shutil.move(runs.folder() / network.digest, place)
    weights = place / "weights.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "wrong":
        tensors = load_file(weights)
        not_a_number(tensors)
        save_file(tensors, weights)
        resum(place)
    elif damage == "missing":
        shutil.rmtree(place)
    assert runs.is_carried(given.begins_as) is (damage in (None, "wrong"))
    trainings.clear()
    runs.fit(given)
    assert trainings == ([given] if damage is None else [given.begins_as, given])


def test_a_run_encodes_and_decodes_and_knows_its_data_and_beta(trainings):
    run = runs.fit(recipe("sigma_vae", **SMALL))
    assert run.latent_dim == 8 and len(run.dataset.train_images) == 256
    codes = run.encode(run.dataset.test_images)
    assert codes.shape == (100, 8)
    assert run.decode(codes).shape == (100, 1, 28, 28)
    error = run.history.held_out[-1]["reconstruction"]
    assert run.beta == pytest.approx(beta_of_decoder_variance(error, 8))
    assert runs.fit(recipe("ae", **SMALL)).beta == 0
    assert runs.fit(recipe("vae", 0.1, **SMALL)).beta == 0.1


def test_files_are_safetensors_and_json(trainings):
    run = runs.fit(recipe("ae", **SMALL))
    folder = runs.folder() / run.digest
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json",
        "history.json",
        "recipe.json",
        "weights.safetensors",
    ]
    record = json.loads((folder / "recipe.json").read_text())
    assert record["recipe"] == recipe("ae", **SMALL).as_dict()
    assert record["made"] == run.made
    assert run.made["torch"] == torch.__version__ and run.made["seconds"] > 0


def test_a_damaged_run_is_set_aside_and_fitted_again(trainings):
    given = recipe("vae", 0.1, **SMALL)
    good = runs.fit(given)
    path = runs.folder() / good.digest / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = files(cache.folder())
    assert not runs.is_fitted(given)
    assert files(cache.folder()) == before
    with pytest.warns(UserWarning, match="damaged.*weights.*set aside"):
        mended = runs.fit(given)
    assert len(trainings) == 2
    assert torch.equal(good.model.encoder[0].weight, mended.model.encoder[0].weight)


def not_a_number(weights: dict[str, torch.Tensor]) -> None:
    weights["encoder.0.weight"].view(-1)[0] = float("nan")


def of_another_shape(weights: dict[str, torch.Tensor]) -> None:
    weights["encoder.0.weight"] = weights["encoder.0.weight"][:1].clone()


def without_a_layer(weights: dict[str, torch.Tensor]) -> None:
    del weights["encoder.0.weight"]


@pytest.mark.parametrize("change", [not_a_number, of_another_shape, without_a_layer])
def test_weights_that_are_wrong_though_their_checksum_is_right_are_fitted_again(trainings, change):
    run = runs.fit(recipe("ae", **SMALL))
    place = runs.folder() / run.digest
    weights = load_file(place / "weights.safetensors")
    change(weights)
    save_file(weights, place / "weights.safetensors")
    resum(place)
    with pytest.warns(UserWarning, match="is damaged .*; it is set aside .* computed again"):
        again = runs.fit(recipe("ae", **SMALL))
    assert len(trainings) == 2
    for mine, its in zip(run.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("file", ["history.json", "recipe.json"])
def test_a_field_of_another_version_is_fitted_again(trainings, file):
    run = runs.fit(recipe("ae", **SMALL))
    place = runs.folder() / run.digest
    record = {"field of another version": 1}
    (place / file).write_text(json.dumps(record))
    resum(place)
    with pytest.warns(UserWarning, match="is damaged"):
        assert runs.fit(recipe("ae", **SMALL)).history == run.history
    assert len(trainings) == 2


def resum(place: Path) -> None:
    """Checksums that are right for what is there."""
    sums = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.iterdir()
        if path.name != "checksums.json"
    }
    (place / "checksums.json").write_text(json.dumps(sums))


def test_a_cache_that_cannot_be_used_is_an_error_before_the_training(trainings):
    cache.folder().write_text("no folder")
    with pytest.raises(cache.CacheError, match="Delete what stands in its way.*VAE_NB_CACHE"):
        runs.fit(recipe("vae", 0.1, **SMALL))
    assert trainings == []


def test_progress_is_shown_only_where_it_is_wanted(trainings, capfd):
    runs.fit(recipe("vae", 0.01, **SMALL), show_progress=True)
    assert "VAE, β = 0.01 (width 4, 8 latents, 1 epoch," in capfd.readouterr().err
    runs.fit(recipe("vae", 0.02, **SMALL), show_progress=False)
    assert capfd.readouterr().err == ""


# --- its name ---


def test_every_field_of_a_recipe_is_in_the_name(trainings):
    usual = recipe("vae", 0.1, **SMALL)
    changes = dict(
        model="ae",
        beta=0.2,
        epochs=2,
        batch_size=128,
        learning_rate=1e-3,
        schedule="constant",
        optimiser="adam",
        width=5,
        latent_dim=9,
        seed=1,
        dataset="KMNIST",
        train_images=None,
    )
    assert changes.keys() == usual.as_dict().keys()
    others = [
        dataclasses.replace(usual, **{name: value} | ({"beta": 0.0} if name == "model" else {}))
        for name, value in changes.items()
    ]
    assert len({runs.digest(each) for each in [usual, *others]}) == 13
    assert runs.digest(recipe("vae", 0.1, **SMALL)) == runs.digest(usual)


def test_the_content_of_the_data_and_its_preprocessing_are_in_the_name(monkeypatch):
    monkeypatch.setattr(data, "_held", weakref.WeakValueDictionary())
    given, contents = recipe("vae", 0.1, **SMALL), data._carried()
    # 300 images are enough to tell data apart.
    for file, head, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
        for part in ("train", "t10k"):
            name = f"{part}-{file}-ubyte"
            contents[name] = contents[name][: head + 300 * size]
    monkeypatch.setattr(data, "_carried", lambda: contents)
    name = runs.digest(given)
    assert runs.digest(given) == name

    original = data._images
    with monkeypatch.context() as patch:
        patch.setattr(data, "_images", lambda *arguments: original(*arguments) * 255 / 256)
        assert runs.digest(given) != name
    for file in contents:
        changed = contents[file][:-1] + bytes([(contents[file][-1] + 1) % 10])
        with monkeypatch.context() as patch:
            patch.setattr(data, "_carried", lambda file=file, to=changed: contents | {file: to})
            assert runs.digest(given) != name, file
    assert runs.digest(given) == name


CODE = "\nedited = True\n"
COMMENT = "\n# edited\n"


@pytest.mark.parametrize(
    ("module", "edit", "renamed"),
    [
        ("models", CODE, {"vae", "multi_rate"}),
        ("objective", CODE, {"vae", "multi_rate"}),
        ("optim", CODE, {"vae", "multi_rate"}),
        ("training", CODE, {"vae", "multi_rate"}),
        ("training", COMMENT, set()),
        ("multirate", CODE, {"multi_rate"}),
        # What recipes and data sets decide is in the name by its value.
        ("recipe", CODE, set()),
        ("data", CODE, set()),
        ("progress", CODE, set()),
        ("cache", CODE, set()),
        ("runs", CODE, set()),
        ("parameters", CODE, set()),
        ("figures", CODE, set()),
    ],
)
def test_the_code_that_decides_the_weights_is_in_the_name(
    module, edit, renamed, trainings, monkeypatch, tmp_path
):
    recipes = {"vae": recipe("vae", 0.1, **SMALL), "multi_rate": recipe("multi_rate", **SMALL)}
    names = {model: runs.digest(given) for model, given in recipes.items()}
    source = Path(cache.__file__).with_name(f"{module}.py")
    edited = tmp_path / "edited.py"
    edited.write_text(source.read_text(encoding="utf-8") + edit, encoding="utf-8")
    original = cache.source_digest

    def of_edited(*paths):
        return original(*(edited if path == source else path for path in paths))

    monkeypatch.setattr(cache, "source_digest", of_edited)
    assert {model for model, given in recipes.items() if runs.digest(given) != names[model]} == (
        renamed
    )


def test_another_recipes_run_is_not_taken_for_ones_own(trainings):
    first, second = (runs.fit(recipe("ae", seed=seed, **SMALL)) for seed in (0, 1))
    place = runs.folder() / first.digest
    shutil.rmtree(place)
    shutil.copytree(runs.folder() / second.digest, place)
    with pytest.warns(UserWarning, match="is damaged .*another recipe's"):
        again = runs.fit(recipe("ae", **SMALL))
    assert torch.equal(again.model.encoder[0].weight, first.model.encoder[0].weight)
    assert len(trainings) == 3
