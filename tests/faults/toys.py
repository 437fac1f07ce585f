"""Small things to break: a data set, recipes that are fitted in no time, a toy book."""

from __future__ import annotations

import functools
import json
import os
import shutil
import warnings
from pathlib import Path

import nbformat
import torch
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from faults import ROOT
from vae_nb import cache, data, runs
from vae_nb.recipe import Recipe, recipe

SET = "KMNIST"


def idx(tensor: torch.Tensor) -> bytes:
    """An IDX file of images or labels."""
    shape = (len(tensor), 28, 28) if tensor.ndim > 1 else (len(tensor),)
    head = b"".join(n.to_bytes(4, "big") for n in (0x800 + len(shape), *shape))
    return head + tensor.to(torch.uint8).numpy().tobytes()


def small_set(place: Path, train: int = 300, test: int = 60) -> Path:
    """A folder for ``VAE_NB_DATA`` with a set of noise."""
    specification = data.SPECIFICATIONS[SET]
    folder = place / SET
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", train), ("test", test)):
        images, labels = specification.files(part)
        pixels = torch.randint(0, 256, (count, 28, 28), generator=generator)
        (folder / images).write_bytes(idx(pixels))
        (folder / labels).write_bytes(idx(torch.arange(count) % 10))
    return place


def tiny(seed: int = 0, **changes: object) -> Recipe:
    """A recipe that is fitted in a fraction of a second."""
    small = dict(width=2, latent_dim=4, epochs=1, batch_size=100, dataset=SET, seed=seed)
    return recipe("vae", 0.1, **small | changes)


def fit(*seeds: int) -> None:
    """Fit the tiny recipes; a warning is an error."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for seed in seeds:
            runs.fit(tiny(seed), show_progress=False)


def unsound(store: Path) -> str:
    """A run under its own name that is not whole, "" if there is none."""
    places = [path for path in (store / "runs").glob("[0-9a-f]*") if path.suffix != ".lock"]
    return ", ".join(path.name for path in places if not cache.is_cached(path))


def leftovers(folder: Path) -> str:
    """Hidden files and folders of unfinished work."""
    return ", ".join(path.name for path in folder.rglob(".*-????????"))


_CELL = 'import time\n{wait}\nprint("an answer of {name}")'


def toy_book(place: Path, pages: int = 2, wait: float = 0.2) -> Path:
    """A book in the style of ours, with its extensions; each page has a cell that takes a while."""
    book = place / "book"
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("*.ipynb", "*.md", "_build"))
    if not (place / "vae_nb").exists():
        (place / "vae_nb").symlink_to(ROOT / "vae_nb")
    names = ["index", *(f"page{number}" for number in range(1, pages))]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for name in names:
        parameters = new_code_cell("beta = 1.0", metadata={"tags": ["parameters"]})
        code = new_code_cell(_CELL.format(wait=f"time.sleep({wait})", name=name))
        cells = [new_markdown_cell(f"# The {name}"), parameters, code]
        notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, book / f"{name}.ipynb")
    chapters = [{"file": name} for name in names[1:]]
    toc = {"format": "jb-book", "root": "index", "chapters": chapters}
    (book / "_toc.yml").write_text(yaml.safe_dump(toc))
    return book


@functools.cache
def mode(folder: Path) -> int:
    """The mode of a file that is made here in the usual way."""
    probe = folder / "probe"
    probe.touch()
    found = os.stat(probe).st_mode & 0o777
    probe.unlink()
    return found


def resum(place: Path) -> None:
    """Make the checksums of a folder right for what is there."""
    sums = {
        path.name: cache._digest(path.read_bytes())
        for path in place.iterdir()
        if path.name != "checksums.json" and path.is_file()
    }
    (place / "checksums.json").write_text(json.dumps(sums))
