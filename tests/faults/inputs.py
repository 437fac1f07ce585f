"""Bad input at every entry: taken on purpose, or refused in one line that names the value's place.

By Hypothesis and by list. What is neither taken nor refused by an error of the kind that a command
prints (``vae_nb.__main__``) is a fault, and so is an error of more than one line.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from faults import Campaign, Child, Tried, toys
from vae_nb import __main__ as door
from vae_nb import archive, cache, data, parameters, recipe
from vae_nb.commands import exercises, rerun, rerun_chapter

WORDS = [
    *("", " ", "0", "-0", "-1", "1_0", "٣", "0x1", "0,5", "1e400", "nan", "inf", "-inf", "1e-400"),
    *("true", "None", "[]", "[1", "{}", "()", "lambda: 1", "__import__('os')", "1;2", "𝟙", "½"),
    *("..", "../..", "/etc/passwd", "a/b", "~", "$(touch x)", "`touch x`", "; touch x", "\0", "\n"),
    *("yes", "no", "on", "off", "y", "n", "1:30", "0o17", "012", "!!python/object:os.system", "&a"),
    *("x" * 300, "<img src=x onerror=alert(1)>", "{{ 1 }}", "%s", "\u202e", "\ud800", "1" * 5000),
    *(10**23, 2**63, 2**63 - 1, -1, True, False, None, 0.5, math.nan, math.inf, 1e308, 1 + 2j),
    *([], [1], {}, (), (1, 2), {1}, b"1", object, print, [[1]], [math.nan], [None], "MNIST"),
]
ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.binary(max_size=9),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=5)), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
SHARED = dict(epochs=1, images=0, seed=0, dataset="MNIST", profile="default", latent_dim=4)
FIELDS = ("beta", "epochs", "batch_size", "learning_rate", "width", "latent_dim", "seed")
FIELDS += ("dataset", "train_images", "profile", "schedule", "optimiser", "model")


def _recipe(value: Any, field: str) -> None:
    given_ = {"model": "vae", "beta": 0.1} | {field: value}
    made = recipe.recipe(**given_)
    json.dumps(made.as_dict(), allow_nan=False)  # it has a digest
    str(made)


def _yaml(value: Any, field: str) -> None:
    """As papermill's ``-y`` reads it."""
    try:
        read = yaml.safe_load(f"{field}: {value}")
    except (yaml.YAMLError, ValueError):
        return  # papermill's own to refuse
    if isinstance(read, dict) and field in read:
        _recipe(read[field], field)


def _read_archive(text: Any, folder: Path) -> None:
    path = folder / "archive.json"
    path.write_bytes(text if isinstance(text, bytes) else str(text).encode(errors="replace"))
    archive.read.__wrapped__(path)


def _environment(text: Any) -> None:
    value = str(text)
    if "\0" in value or not value.isprintable() or value in ("", " "):
        return
    before = os.environ["VAE_NB_CACHE"]
    os.environ["VAE_NB_CACHE"] = value
    try:
        cache.is_cached(cache.folder() / "runs" / "x")
    finally:
        os.environ["VAE_NB_CACHE"] = before


def entries(folder: Path) -> dict[str, Callable[[Any], object]]:
    """What takes a value, by name."""
    found: dict[str, Callable[[Any], object]] = {
        f"recipe {field}": lambda v, field=field: _recipe(v, field) for field in FIELDS
    }
    found |= {
        f"-y {field}": lambda v, field=field: _yaml(v, field)
        for field in ("beta", "seed", "epochs")
    }
    found |= {
        "-p": lambda v: rerun.value(str(v)),
        "--beta": lambda v: rerun.number(str(v)),
        "rerun chapter": lambda v: rerun.rerun(str(v), output=folder / "out"),
        "rerun beta": lambda v: rerun_chapter.check(_chapter(), {"beta": v}, ""),
        "rerun seed": lambda v: rerun_chapter.check(_chapter(), {"seed": v}, ""),
        "rerun dataset": lambda v: rerun_chapter.check(_chapter(), {"dataset": v}, ""),
        "rerun name": lambda v: rerun_chapter.check(_chapter(), {str(v): 1}, ""),
        "rerun folder": lambda v: rerun._slug("beta_ten", {"beta": v}),
        "images": lambda v: parameters.checked(**SHARED | {"images": v}),
        "labels": lambda v: parameters.label_pairs(v, [1], tuple("0123456789")),
        "neighbours": lambda v: parameters.neighbours(v, 0.5, 2),
        "lower": lambda v: parameters.neighbours(0.1, v, 2),
        "range": parameters.within_range,
        "compared": lambda v: parameters.betas("compared", v),
        "data set": data.load,
        "training images": lambda v: data.load("MNIST", v),
        "exercise": lambda v: exercises.check(v, x=1),
        "exercise number": lambda v: exercises.check("ex-objective-units", beta=v),
        "archive": lambda v: _read_archive(v, folder),
        "VAE_NB_CACHE": _environment,
        "cache command": lambda v: _main("cache", str(v)),
        "cache --days": lambda v: _main("cache", "prune", "--dry-run", f"--days={v}"),
        "sweep --seeds": lambda v: _main("sweep", f"--seeds={v}", "--output=/nonexistent/x"),
        "sweep --output": lambda v: _main("sweep", "--finished", "--seeds=9", f"--output={v}/x/y"),
        "handin": lambda v: _main("handin", str(v)),
        "handin --output": lambda v: _main("handin", "x.ipynb", f"--output={v}"),
        "command": lambda v: _main(str(v)),
        "rerun --book": lambda v: _main("rerun", "beta_ten", f"--book={v}/x"),
    }
    return found


def _chapter() -> Path:
    from faults import ROOT

    return ROOT / "book" / "beta_ten.ipynb"


def _main(*arguments: str) -> None:
    """Through the command line, which turns an error into a line; a traceback passes through."""
    door.main(list(arguments))


def _tried(use: Callable[[Any], object], value: Any) -> str:
    try:
        use(value)
    except (*door._EXPECTED, argparse.ArgumentTypeError) as error:
        if isinstance(error, UnicodeError):
            return f"{error!r}"
        text = str(error)
        return "" if text and "\n" not in text else f"an error of {len(text.splitlines())} lines"
    except SystemExit as end:  # of argparse: wrong usage
        return "" if end.code in (0, 2) else f"exit code {end.code}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return ""


def group(campaign: Campaign) -> Iterator[Tried]:
    """Values by list and by Hypothesis, then IDX files."""
    folder = campaign.new("inputs")
    counted = folder / "tried.jsonl"
    work = lambda: _all(campaign, folder, counted)  # noqa: E731
    child = Child(work, folder / "log", VAE_NB_CACHE=str(folder / "cache"))
    code = child.wait(1200)
    for line in counted.read_text().splitlines() if counted.exists() else ():
        yield Tried(*json.loads(line))
    if code:
        yield Tried("values", f"ended with {code}: {child.said}")
    yield from _files(campaign, folder)


def _all(campaign: Campaign, folder: Path, counted: Path) -> None:
    with counted.open("w", encoding="utf-8") as out:

        def note(name: str, use: Callable[[Any], object], value: Any) -> None:
            lost = _tried(use, value)
            out.write(json.dumps([f"{name}: {ascii(value)[:60]}", lost]) + "\n")
            out.flush()

        for name, use in entries(folder).items():
            for value in campaign.some(WORDS, 6):
                note(name, use, value)

            _generated(campaign, functools.partial(note, name, use))


def _generated(campaign: Campaign, note: Callable[[Any], None]) -> None:
    @seed(campaign.rng.randrange(2**32))
    @settings(
        max_examples=campaign.count(40, 3),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(ANY)
    def tried(value: Any) -> None:
        note(value)

    tried()


# --- IDX files ---


def _head(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BOMB = 300_000_000
FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "wrong magic": (IMAGES, lambda: _head(2052, 1, 28, 28) + bytes(784)),
    "a size of 2 GB in 100 bytes": (IMAGES, lambda: _head(2051, 2_700_000, 28, 28) + bytes(84)),
    "a size of 2^64": (IMAGES, lambda: _head(2051, 2**32 - 1, 2**32 - 1, 2**32 - 1)),
    "more than it says": (IMAGES, lambda: _head(2051, 1, 28, 28) + bytes(785)),
    "less than it says": (IMAGES, lambda: _head(2051, 2, 28, 28) + bytes(784)),
    "27 pixels": (IMAGES, lambda: _head(2051, 1, 27, 28) + bytes(756)),
    "no image": (IMAGES, lambda: _head(2051, 0, 28, 28)),
    "one image": (IMAGES, lambda: _head(2051, 1, 28, 28) + bytes(784)),
    "no header": (IMAGES, lambda: b"\0"),
    "nothing": (IMAGES, lambda: b""),
    "labels above 9": (LABELS, lambda: _head(2049, 300) + bytes([10] * 300)),
    "labels of 255": (LABELS, lambda: _head(2049, 300) + bytes([255] * 300)),
    "too few labels": (LABELS, lambda: _head(2049, 299) + bytes(299)),
    "no label": (LABELS, lambda: _head(2049, 0)),
    "labels with a head of images": (LABELS, lambda: _head(2051, 300, 1, 1) + bytes(300)),
    "a page of HTML": (IMAGES, lambda: b"<!DOCTYPE html>" * 100),
}
PACKED: dict[str, Callable[[], bytes]] = {
    "a bomb without a header": lambda: gzip.compress(bytes(BOMB), 9),
    "a bomb behind a header": lambda: gzip.compress(_head(2051, 1, 28, 28) + bytes(BOMB), 9),
    "half a packed file": lambda: gzip.compress(_head(2051, 1, 28, 28) + bytes(784))[:-9],
    "a packed file that is none": lambda: b"\x1f\x8b" + bytes(50),
}


def _files(campaign: Campaign, folder: Path) -> Iterator[Tried]:
    cases = [(name, file, make) for name, (file, make) in FILES.items()]
    cases += [(name, f"{IMAGES}.gz", make) for name, make in PACKED.items()]
    for name, file, make in campaign.some(cases, 8):
        place = campaign.new("idx")
        toys.small_set(place)
        target = place / toys.SET / file
        target.with_name(target.name.removesuffix(".gz")).unlink(missing_ok=True)
        target.write_bytes(make())
        environment = {"VAE_NB_DATA": str(place), "VAE_NB_CACHE": str(folder / "cache")}
        child = Child(lambda target=target: _load(target), folder / "log", **environment)
        code = child.wait()
        yield Tried(f"IDX, {name}", "" if code == 0 else f"ended with {code}: {child.said}")


def _load(path: Path) -> int:
    """The file is named, in one line and in half a gigabyte."""
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = now + 250_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.set_num_threads(1)
    try:
        data.load(toys.SET)
    except ValueError as error:
        return 0 if str(path) in str(error) or str(path.parent) in str(error) else 71
    return 72
