"""Every kind of file damaged in every way: never a wrong figure without a word."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from faults import Campaign, Child, Tried, kills, store_folder, toys
from vae_nb import archive, archived_models, cache, metrics, runs

WEIGHTS = "weights.safetensors"


def _flip(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def _link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


# Of a file, whatever it is.
FILES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte less": lambda path: os.truncate(path, path.stat().st_size - 1),
    "first bit turned": functools.partial(_flip, at=0),
    "a bit turned": _flip,
    "last bit turned": functools.partial(_flip, at=1),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a folder": _folder,
    "a link to nothing": functools.partial(_link, target="/nonexistent/file"),
    "a link to itself": lambda path: _link(path, str(path)),
    "a device": functools.partial(_link, target="/dev/zero"),
    "a pipe": _pipe,
    "no text": lambda path: path.write_bytes(b"\xff\xfe" * 50),
    "deep JSON": lambda path: path.write_text("[" * 100_000),
    "null": lambda path: path.write_text("null"),
    "removed": lambda path: path.unlink(),
}


def _changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        weights = load_file(run / WEIGHTS)
        change(weights)
        save_file(weights, run / WEIGHTS)
        toys.resum(run)

    return damage


def _not_finite(value: float) -> Callable[[Path], None]:
    return _changed(lambda weights: weights["encoder.0.weight"].view(-1)[0:1].fill_(value))


def _history(text: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / "history.json").write_text(text)
        toys.resum(run)

    return damage


def _of_another(file: str | None) -> Callable[[Path], None]:
    """The files of the other run that is there, or one of them with its checksum."""

    def damage(run: Path) -> None:
        (other,) = (
            path for path in run.parent.iterdir() if path.is_dir() and path.name != run.name
        )
        if file is None:
            shutil.rmtree(run)
            shutil.copytree(other, run)
        else:
            shutil.copy(other / file, run / file)

    return damage


# Of a run, with checksums that are right for it.
RUNS: dict[str, Callable[[Path], object]] = {
    "a weight that is NaN": _not_finite(float("nan")),
    "a weight that is infinite": _not_finite(float("inf")),
    "another shape": _changed(
        lambda weights: weights.update(
            {"encoder.0.weight": weights["encoder.0.weight"][:1].clone()}
        )
    ),
    "another name": _changed(lambda weights: weights.update(x=weights.pop("encoder.0.weight"))),
    "a layer less": _changed(lambda weights: weights.pop("encoder.0.weight")),
    "a field of another version": _history('{"reconstruction": [], "kl": [], "x": 1}'),
    "another run's folder": _of_another(None),
    "another run's weights": _of_another(WEIGHTS),
    "another run's recipe": _of_another("recipe.json"),
    "no checksums": lambda run: (run / "checksums.json").write_text("{}"),
    "a file where the folder was": lambda run: (shutil.rmtree(run), run.write_text("x")),
    "a link where the folder was": lambda run: (
        shutil.rmtree(run),
        run.symlink_to("/nonexistent/x"),
    ),
    "an empty folder": lambda run: (shutil.rmtree(run), run.mkdir()),
    "a file more": lambda run: (run / "more").touch(),
    "a folder more": lambda run: (run / "more").mkdir(),
}


def group(campaign: Campaign) -> Iterator[Tried]:
    """The cache, the carried models, the archive, and what a build keeps."""
    place = campaign.new("damage")
    data = str(toys.small_set(place / "data"))
    good = place / "good"
    child = Child(functools.partial(toys.fit, 0, 1), place / "log", **_at(good, data))
    if code := child.wait():
        yield Tried("fit, undisturbed", f"{code}: {child.said}")
        return
    yield from _runs(campaign, place, data, good)
    yield from _values(campaign, place)
    yield from _carried(campaign, place)
    yield from _archive(campaign, place)
    if campaign.share >= 1:
        yield from _builds(campaign, place)


def _at(store: Path, data: str) -> dict[str, str]:
    return store_folder(store) | {"VAE_NB_DATA": data}


def _runs(campaign: Campaign, place: Path, data: str, good: Path) -> Iterator[Tried]:
    files = ("checksums.json", "history.json", "recipe.json", WEIGHTS)
    cases: list[Any] = [
        (f"{file} of a run: {name}", lambda run, file=file, damage=damage: damage(run / file))
        for file in files
        for name, damage in FILES.items()
    ]
    cases += [(f"a run: {name}", damage) for name, damage in RUNS.items()]
    for name, damage in campaign.some(cases, 8):
        store = place / f"damaged-{len(list(place.iterdir()))}"
        shutil.copytree(good, store)
        child = Child(functools.partial(_look, damage), place / "log", **_at(store, data))
        code = child.wait()
        yield Tried(name, "" if code == 0 else f"ended with {code}: {child.said}")
        shutil.rmtree(store)


def _look(damage: Callable[[Path], object]) -> None:
    """Damage the first run: it is known for damaged, said, set aside, and fitted again the same."""
    torch.set_num_threads(1)
    run = runs.folder() / runs.digest(toys.tiny(0))
    # Copies: what is loaded is a view of the file, and would be damaged with it.
    before = {name: tensor.clone() for name, tensor in load_file(run / WEIGHTS).items()}
    damage(run)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again = runs.fit(toys.tiny(0), show_progress=False)
    weights = again.model.state_dict()
    assert all(torch.equal(weights[key], before[key]) for key in before), "another model"
    assert [each for each in said if "is damaged" in str(each.message)], "without a word"
    assert cache.is_cached(run) and list(run.parent.glob("damaged-*")), "not set aside"


def _values(campaign: Campaign, place: Path) -> Iterator[Tried]:
    wrong: dict[str, Callable[[Path], object]] = {
        "text for a number": lambda path: _write(path, {"a": ["x", "y", "z"]}),
        "too few numbers": lambda path: _write(path, {"a": [1.0]}),
        "a number alone": lambda path: _write(path, {"a": 1.0}),
        "another's": lambda path: shutil.copy(path.with_name("other"), path),
        "no object": lambda path: _write(path, [1]),
    }
    for name, damage in campaign.some([*FILES.items(), *wrong.items()], 6):
        path = place / f"values-{len(list(place.iterdir()))}" / "kept"
        path.parent.mkdir()
        for each, value in (("kept", 1.0), ("other", 2.0)):
            _measured(path.with_name(each), value)
        damage(path)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = _measured(path, 1.0)["a"]
        loud = said or name in ("removed", "a link to nothing")
        lost = "" if found.value == 1.0 and loud else f"{found}, {'a' if said else 'no'} warning"
        yield Tried(f"measured values: {name}", lost)


def _measured(path: Path, value: float) -> Any:
    return cache.values(path, ["a"], lambda _: {"a": [value, value, value]}, metrics._read)


def _write(path: Path, kept: Any) -> None:
    """Values with the checksum that is right for them."""
    path.unlink()
    cache.values(path, list(kept) if isinstance(kept, dict) else [], lambda _: kept)
    if not isinstance(kept, dict):
        text = json.dumps(kept)
        path.write_text(json.dumps({"sha256": cache._digest(text.encode())}) + "\n" + text)


def _carried(campaign: Campaign, place: Path) -> Iterator[Tried]:
    digest = runs.digest(archived_models.shown()[0])
    for name, damage in campaign.some(list(FILES.items()), 2):
        carried = place / f"carried-{len(list(place.iterdir()))}"
        shutil.copytree(archived_models.CARRIED, carried)
        damage(carried / "runs" / digest / WEIGHTS)
        try:
            missing = archived_models.unpack(place / f"{carried.name}-unpacked", carried)
            lost = "" if missing == [str(archived_models.shown()[0])] else f"not carried: {missing}"
        except Exception as error:
            lost = repr(error)
        shutil.rmtree(carried)
        yield Tried(f"carried weights: {name}", lost)
    others = sorted((archived_models.CARRIED / "measured").iterdir())
    others += sorted((archived_models.CARRIED / "classifiers").glob(f"*/{WEIGHTS}"))
    for name, damage in campaign.some(list(FILES.items()), 2):
        original = campaign.rng.choice([campaign.rng.choice(others), others[-1]])
        relative = original.relative_to(archived_models.CARRIED)
        carried = place / f"carried-{len(list(place.iterdir()))}"
        shutil.copytree(archived_models.CARRIED, carried)
        damage(carried / relative)
        unpacked = place / f"{carried.name}-unpacked"
        try:
            archived_models.unpack(unpacked, carried)
            lost = "it was unpacked" if (unpacked / relative).exists() else ""
        except Exception as error:
            lost = repr(error)
        shutil.rmtree(carried)
        yield Tried(f"carried {relative.parts[0]}: {name}", lost)


def _archive(campaign: Campaign, place: Path) -> Iterator[Tried]:
    for name, damage in campaign.some(list(FILES.items()), 3):
        path = place / f"archive-{len(list(place.iterdir()))}.json"
        shutil.copy(archive.ARCHIVE, path)
        damage(path)
        try:
            found = archive.read.__wrapped__(path)
            same = found.digest == archive.read().digest
            lost = "" if same else "a damaged archive was read"
        except (ValueError, OSError) as error:
            lost = "" if str(path) in str(error) else f"without its name: {error}"
        except Exception as error:
            lost = repr(error)
        yield Tried(f"archive: {name}", lost)


def _article(page: Path) -> str:
    """What a page says, without what belongs to every page; "" for none."""
    found = re.search(r"<article.*?</article>", kills._text(page), flags=re.DOTALL)
    return re.sub(r"<[^>]*>", "", found[0]) if found else ""


def _builds(campaign: Campaign, place: Path) -> Iterator[Tried]:
    """Of what a build keeps, one file after the other: a clear end, or the right page."""
    book = toys.toy_book(place / "built")
    built = book / "_build"
    work = functools.partial(kills.jupyter_book, book)
    page = built / "html" / "page1.html"
    if lost := kills._finish(work, page, place / "log"):
        yield Tried("build, undisturbed", lost)
        return
    right = _article(page)
    names = ("emptied", "cut", "a bit turned", "a folder", "null", "removed")
    for name in names * campaign.count(4, 1):
        files = [path for path in built.rglob("*") if path.is_file() and path.name != ".lock"]
        places = (".jupyter_cache", ".doctrees", ".checksums.json")
        kept = [path for path in files if path.relative_to(built).parts[0] in places]
        path = campaign.rng.choice(sorted(kept))
        FILES[name](path)
        what = f"{path.relative_to(built)}: {name}"
        child = Child(work, place / "log")
        code = child.wait()
        if code:  # said, and mended by `make clean`
            shutil.rmtree(built)
            what += ", a failed build"
            lost = "" if code == 1 or code == 2 else f"ended with {code}: {child.said}"
            lost += kills._finish(work, page, place / "log")
        else:
            lost = "" if _article(page) == right else "another page without a word"
        yield Tried(f"build, {what}", lost)
