"""Who may: nobody else's pickles, no open port, the user's umask."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from faults import ROOT, Campaign, Child, Tried, kills, store_folder, toys

PICKLES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


def group(campaign: Campaign) -> Iterator[Tried]:
    """Sources, modes of files, the folder of the built book, dask."""
    for path in sorted((ROOT / "vae_nb").rglob("*.py")):
        yield Tried(f"no pickle is read by {path.name}", ", ".join(_pickles(path)))
    place = campaign.new("rights")
    data = str(toys.small_set(place / "data"))
    for mask in (0o022, 0o027, 0o077, 0o002):
        store = place / f"umask-{mask:o}"
        environment = store_folder(store) | {"VAE_NB_DATA": data}
        child = Child(functools.partial(_masked, mask), place / "log", **environment)
        code = child.wait()
        files = [path for path in store.rglob("*") if not path.name.endswith(".lock")]
        wrong = [
            f"{path.name} {path.stat().st_mode & 0o777:o}"
            for path in files
            if path.stat().st_mode & 0o777 != (0o777 if path.is_dir() else 0o666) & ~mask
        ]
        yield Tried(f"umask {mask:03o}", f"{code}: {child.said}" if code else ", ".join(wrong))
    yield from _folders(campaign, place)
    if campaign.share >= 1:
        child = Child(_dask, place / "log")
        code = child.wait()
        yield Tried("dask listens on loopback", f"{code}: {child.said}" if code else "")


def _pickles(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [n for n in names if n.split(".")[0] in PICKLES] + [
        c for c in calls if c == "torch.load"
    ]


def _masked(mask: int) -> None:
    os.umask(mask)
    toys.fit(0)


def _folders(campaign: Campaign, place: Path) -> Iterator[Tried]:
    """A folder of built pages that everybody may write, or that is somebody else's, is refused."""
    book = toys.toy_book(place / "built")
    built = book / "_build"
    work = functools.partial(kills.jupyter_book, book)
    if campaign.share >= 1 and (
        lost := kills._finish(work, built / "html" / "page1.html", place / "log")
    ):
        yield Tried("build, undisturbed", lost)
        return
    kept = built / ".doctrees"
    kept.mkdir(parents=True, exist_ok=True)
    pickle = kept / "environment.pickle"
    if not pickle.exists():
        pickle.touch()
    for path in (built, kept, pickle):
        ways = ["everybody's"] + (["somebody else's"] if os.getuid() == 0 else [])
        for way in ways:
            before = path.stat()
            if way == "everybody's":
                path.chmod(before.st_mode | 0o002)
            else:
                os.chown(path, 12345, before.st_gid)
            child = Child(work, place / "log")
            code = child.wait()
            refused = code and "belongs to somebody else, or everybody may write" in child.said
            path.chmod(before.st_mode & 0o7777)
            os.chown(path, before.st_uid, before.st_gid)
            yield Tried(f"{path.name} is {way}", "" if refused else f"{code}: {child.said}")
            (place / "log").unlink(missing_ok=True)


def _dask() -> None:
    import psutil  # dask's own

    from vae_nb.commands import sweep

    with sweep.connect("local", 1):
        ours = psutil.Process()
        listening = {
            connection.laddr.ip
            for process in (ours, *ours.children(recursive=True))
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening == {"127.0.0.1"}, listening
