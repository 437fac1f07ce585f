"""Computed once, atomically, verified; and the digest of sources, the same on every Python."""

import errno
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest
from filelock import FileLock, Timeout

from vae_nb import cache
from vae_nb.cache import CacheError, compute_once, is_cached, source_digest, values

PACKAGE = Path(cache.__file__).parent


def write(folder: Path) -> None:
    (folder / "a").write_text("first")
    (folder / "b").write_bytes(bytes(range(256)))


def fail(*_) -> None:
    pytest.fail("it computed")


def tree(folder: Path) -> dict[str, object]:
    """All that is on disk: names, times, contents."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def start(code: str, *arguments: object, **options) -> subprocess.Popen:
    header = "import os, sys, time\nfrom pathlib import Path\nfrom vae_nb import cache\n"
    command = [sys.executable, "-c", header + code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


# --- folders ---


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux tells what is flushed")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_kept_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch, kind):
    """A power cut may otherwise leave a name without its content."""
    calls, fsync, replace = [], os.fsync, os.replace

    def flushed(descriptor):
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def renamed(source, target):
        calls.append("renamed")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    place = tmp_path / "place"
    if kind == "folder":
        compute_once(place, write)
    else:
        cache.write_atomically(place, "text")
    before = calls[: calls.index("renamed")]
    if kind == "folder":
        assert {Path(each).name for each in before} >= {"a", "b", "checksums.json"}
    assert len(before) >= 1 and all(Path(each).is_relative_to(tmp_path) for each in before)
    assert calls[-1] == str(tmp_path)  # the new name itself


def test_a_folder_that_reads_at_the_second_attempt_is_not_damaged(tmp_path):
    """safetensors makes of an interrupt, in the midst of its tensors, a ValueError."""
    place, said = tmp_path / "folder", []

    def read(folder):
        said.append(folder)
        if len(said) % 2:
            raise ValueError("could not determine the shape of object type 'UntypedStorage'")
        return folder

    assert compute_once(place, write, read) == place
    assert compute_once(place, fail, read) == place and len(said) == 4


def test_a_folder_is_computed_once(tmp_path):
    place = tmp_path / "new" / "folder"
    assert not is_cached(place) and not place.parent.exists()
    assert compute_once(place, write) == place == compute_once(place, fail)
    assert is_cached(place)
    assert {path.name for path in place.iterdir()} == {"a", "b", "checksums.json"}
    assert (place / "a").read_text() == "first"
    assert {path.name for path in place.parent.iterdir()} == {"folder", "folder.lock"}
    assert place.stat().st_mode == place.parent.stat().st_mode  # as readable as any other


def test_what_fails_leaves_nothing_and_passes_as_it_is(tmp_path):
    def breaks(folder: Path) -> None:
        write(folder)
        raise FileNotFoundError("of the computation's own")

    with pytest.raises(FileNotFoundError, match="own") as caught:
        compute_once(tmp_path / "x", breaks)
    assert not isinstance(caught.value, CacheError)
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]
    compute_once(tmp_path / "x", write)


def flip(place: Path) -> None:
    content = bytearray((place / "b").read_bytes())
    content[100] ^= 1
    (place / "b").write_bytes(content)


DAMAGES = {
    "flip": flip,
    "truncate": lambda place: os.truncate(place / "b", 9),
    "delete": lambda place: (place / "a").unlink(),
    "extra": lambda place: (place / "c").touch(),
    "no checksums": lambda place: (place / "checksums.json").unlink(),
    "empty checksums": lambda place: (place / "checksums.json").write_text("{}"),
    "half checksums": lambda place: os.truncate(place / "checksums.json", 9),
    "checksums of another kind": lambda place: (place / "checksums.json").write_text("[1]"),
    "no folder": lambda place: (shutil.rmtree(place), place.write_text("a file")),
    "empty folder": lambda place: (shutil.rmtree(place), place.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_set_aside_under_the_lock_and_computed_again(
    damage, tmp_path, monkeypatch
):
    place = compute_once(tmp_path / "x", write)
    damage(place)
    before = tree(tmp_path)
    assert not is_cached(place)
    assert tree(tmp_path) == before  # looking changes nothing

    replace = os.replace

    def locked(source, target):
        with pytest.raises(Timeout):
            FileLock(tmp_path / "x.lock").acquire(timeout=0)
        replace(source, target)

    monkeypatch.setattr(cache.os, "replace", locked)
    with pytest.warns(UserWarning, match=r"x is damaged \(.+\); it is set aside as damaged-x-1"):
        compute_once(place, write)
    assert (tmp_path / "damaged-x-1").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute_once(place, fail)
    damage(place)
    with pytest.warns(UserWarning, match="damaged-x-2"):
        compute_once(place, write)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("stage", ["write", "cache._flush", "cache.os.replace"])
def test_a_killed_process_leaves_nothing_half(stage, tmp_path):
    process = start(
        f"""
def write(folder):
    (folder / "a").write_text("half")
def stop(*_):
    print("here", flush=True)
    time.sleep(60)
{stage} = stop
cache.compute_once(Path(sys.argv[1]), write)
""",
        tmp_path / "x",
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "x").exists() and not is_cached(tmp_path / "x")
    compute_once(tmp_path / "x", write)  # and the lock is nobody's
    assert (tmp_path / "x" / "a").read_text() == "first"


# Each waits until all are there, says what it computes, and takes its time.
TOGETHER = """
place, here, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
(here / name).touch()
while len(list(here.iterdir())) < 3:
    time.sleep(0.001)
def write(folder):
    print("folder", flush=True)
    (folder / "a").write_text(name)
    time.sleep(0.3)
def compute(names):
    print(*names, flush=True)
    time.sleep(0.3)
    return dict.fromkeys(names, name)
"""


def outputs(code: str, tmp_path: Path) -> list[str]:
    (tmp_path / "here").mkdir()
    processes = [start(TOGETHER + code, tmp_path / "x", tmp_path / "here", name) for name in "abc"]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    return [out for out, _ in said]


def test_of_processes_that_ask_at_once_one_computes(tmp_path):
    said = outputs("cache.compute_once(place, write)", tmp_path)
    assert sorted(said) == ["", "", "folder\n"]
    assert (tmp_path / "x" / "a").read_text() == "abc"[said.index("folder\n")]


# --- values ---


def test_values_computes_only_what_is_missing(tmp_path):
    asked = []

    def compute(names):
        asked.append(names)
        return {name: (len(name), float("nan")) for name in names}

    place = tmp_path / "new" / "v.json"
    first = values(place, ["a", "bb"], compute)
    assert first["bb"][0] == 2 and values(place, ["bb"], compute)["bb"][0] == 2
    assert type(first["a"]) is type(values(place, ["a"], compute)["a"]) is list
    assert list(values(place, ["ccc", "a"], compute)) == ["ccc", "a"]
    assert asked == [["a", "bb"], ["ccc"]]
    assert is_cached(place, ["a", "bb", "ccc"]) and not is_cached(place, ["a", "d"])
    assert not is_cached(tmp_path / "none", ["a"])
    assert {path.name for path in place.parent.iterdir()} == {"v.json", "v.json.lock"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(path.read_text().replace("42", "43")),
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\xfe\n{}"),
        lambda path: path.write_text('{}\n{"a": 42}'),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["edit", "truncate", "empty", "no text", "no checksum", "a folder"],
)
def test_damaged_values_are_set_aside_and_computed_again(damage, tmp_path):
    place = tmp_path / "v.json"
    values(place, ["a"], lambda _: {"a": 42})
    damage(place)
    before = tree(tmp_path)
    assert not is_cached(place, ["a"])
    assert tree(tmp_path) == before
    with pytest.warns(UserWarning, match=r"v\.json is damaged .* set aside as damaged-v\.json-1"):
        assert values(place, ["a"], lambda _: {"a": 44}) == {"a": 44}
    assert values(place, ["a"], fail) == {"a": 44}


def test_values_of_processes_at_once_are_all_kept_and_the_same_for_all(tmp_path):
    code = "found = cache.values(place, ['shared', name], compute)\nprint(found['shared'])"
    said = [out.split() for out in outputs(code, tmp_path)]
    # One computed the shared value, and all have it; each computed its own.
    assert sorted(len(words) for words in said) == [2, 2, 3]
    assert len({words[-1] for words in said}) == 1
    assert is_cached(tmp_path / "x", ["shared", *"abc"])
    assert values(tmp_path / "x", [*"abc"], fail) == {name: name for name in "abc"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_process_leaves_the_values_of_before(tmp_path):
    place = tmp_path / "v.json"
    values(place, ["a"], lambda _: {"a": 1})
    process = start(
        """
def stop(*_):
    print("here", flush=True)
    time.sleep(60)
cache._flush = stop
cache.values(Path(sys.argv[1]), ["a", "b"], lambda names: dict.fromkeys(names, 2))
""",
        place,
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert is_cached(place, ["a"]) and not is_cached(place, ["b"])
    assert values(place, ["a", "b"], lambda names: dict.fromkeys(names, 3)) == {"a": 1, "b": 3}


def test_a_file_is_as_readable_as_any_other_or_not_there(tmp_path, monkeypatch):
    (tmp_path / "usual").touch()
    cache.write_atomically(tmp_path / "file", "β")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "β"
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode
    monkeypatch.setattr(cache.os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.write_atomically(tmp_path / "file", "other")
    assert {path.name for path in tmp_path.iterdir()} == {"usual", "file"}
    assert (tmp_path / "file").read_text(encoding="utf-8") == "β"


# --- what cannot be written ---

BOTH = {
    "compute_once": lambda place: compute_once(place, fail),
    "values": lambda place: values(place, ["a"], fail),
}


@pytest.mark.parametrize("ask", BOTH.values(), ids=BOTH)
def test_a_full_disk_is_one_clear_error_before_anything_is_computed(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(CacheError) as caught:
        ask(tmp_path / "x")
    assert caught.value.errno == errno.ENOSPC
    message = str(caught.value)
    assert f"cannot keep x in {tmp_path}: only 1 MiB free, 64 needed. Free some space" in message
    assert "or set the environment variable VAE_NB_CACHE to a folder that can be" in message
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


@pytest.mark.parametrize("ask", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("below", [".", "runs", "runs/deeper"])
def test_a_cache_path_that_is_a_file_names_the_remedy(ask, below, tmp_path):
    (tmp_path / "cache").write_text("a file, no folder")
    names_it = rf"Delete what stands in its way \({tmp_path}/cache\), or set.*VAE_NB_CACHE"
    with pytest.raises(CacheError, match=names_it):
        ask(tmp_path / "cache" / below / "x")


@pytest.mark.parametrize("ask", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_told_to_free_nothing(ask, code, tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache.tempfile, "TemporaryFile", read_only)
    with pytest.raises(CacheError, match=rf"{os.strerror(code)}\. Set the environment") as caught:
        ask(tmp_path / "x")
    assert caught.value.errno == code


def test_a_disk_that_fills_up_while_it_is_written_leaves_the_values_of_before(tmp_path):
    resource = pytest.importorskip("resource")  # a true failure of the system, for root as well
    place = tmp_path / "v.json"
    values(place, ["a"], lambda _: {"a": 1})
    process = start(
        "cache.values(Path(sys.argv[1]), ['b'], lambda _: {'b': 'x' * 10_000})",
        place,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    message = process.communicate(timeout=60)[1].splitlines()[-1]
    assert "CacheError" in message and "File too large. Free some space there, or set" in message
    assert values(place, ["a"], fail) == {"a": 1}
    assert {path.name for path in tmp_path.iterdir()} == {"v.json", "v.json.lock"}


def test_the_folder_is_the_platforms_unless_the_environment_names_one(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "cache"))
    assert cache.folder() == tmp_path / "cache" and not (tmp_path / "cache").exists()
    monkeypatch.setenv("VAE_NB_CACHE", "~/somewhere")
    assert cache.folder() == Path.home() / "somewhere"
    monkeypatch.setenv("VAE_NB_CACHE", "")
    assert cache.folder() == Path(platformdirs.user_cache_dir("vae_nb"))
    monkeypatch.delenv("VAE_NB_CACHE")
    assert cache.folder() == Path(platformdirs.user_cache_dir("vae_nb"))


# --- the digest of sources ---

SOURCE = '''"""What it is for: β."""

import os  # why

TEXT = """kept:  # no comment
    as it is"""


@decorator
class A(Base):
    """About A, as β."""

    x = "a # in a string"

    def f(self, y: int) -> str:
        """About f."""
        if y:  # a comment
            return f"{y:#x} {self.x!r}"
        return "β"  # β

    async def g(self):
        "About g."
        return [
            1,
            # between
            2,
        ]


def h(): "About h."; return 3
'''
SAME = [
    ("  # why", ""),
    ("  # why", "  # why not"),
    ("What it is for: β.", "Another\n\ntext."),
    ('    """About A, as β."""\n\n', ""),
    ('    """About A, as β."""\n', '    """About A.\n\n    More of it.\n    """  # so\n'),
    ("About g.", "Über g, äöü."),
    ("About h.", "Über h, äöü."),
    ("            # between\n", "\n"),
    ("\n\n\n", "\n"),
    ("import os", "\n# a comment\nimport os   "),
]
OTHER = [
    ("import os", "import io"),
    ("kept:  # no comment", "kept:"),
    ("    as it is", "  as it is"),
    ("a # in a string", "a # in another string"),
    ("class A(Base)", "class B(Base)"),
    ("y: int", "y: str"),
    ('return "β"', 'return "b"'),
    (":#x}", ":x}"),
    ("            2,", "            3,"),
    ("        return [", "    return ["),
    ("return 3", "return 4"),
    ("def h()", "def i()"),
    ('TEXT = """kept', '"""a string but no docstring"""\nTEXT = """kept'),
]


@pytest.fixture
def digest(tmp_path):
    def of(text: str) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text, encoding="utf-8")
        return source_digest(path)

    return of


@pytest.mark.parametrize(("old", "new"), SAME)
def test_comments_docstrings_and_layout_do_not_change_the_digest(old, new, digest):
    assert old in SOURCE
    assert digest(SOURCE.replace(old, new)) == digest(SOURCE)


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_code_and_its_strings_change_the_digest(old, new, digest):
    assert old in SOURCE
    assert digest(SOURCE.replace(old, new)) != digest(SOURCE)


def test_line_ends_of_other_systems_and_form_feeds_do_not_matter(digest, tmp_path):
    (tmp_path / "crlf.py").write_bytes(SOURCE.replace("\n", "\r\n").encode())
    assert source_digest(tmp_path / "crlf.py") == digest(SOURCE)
    # No line ends for Python: a string of them moves nothing that follows.
    odd = SOURCE.replace("in a string", "in a\x0c\x1c\u2028 string")
    assert digest(odd) == digest(odd.replace("a comment", "another")) != digest(SOURCE)


def test_the_digest_of_files_is_of_their_order_and_ends(tmp_path):
    for name, text in (
        ("a", "x = 1\ny = 2\n"),
        ("b", "z = 3\n"),
        ("c", "x = 1\n"),
        ("d", "y = 2\nz = 3\n"),
    ):
        (tmp_path / name).write_text(text)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert len({source_digest(a, b), source_digest(b, a), source_digest(c, d)}) == 3


DIGEST = "bffe1cf069e41867c27c27668cae801c0fc8ab4be81e7adea8de09015b5c61af"


def pythons() -> list[str]:
    """Other Pythons on this machine that can run the function."""
    names = [f"3.{minor}" for minor in range(10, 16) if minor != sys.version_info.minor]
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for name in names:
        paths = [shutil.which(f"python{name}"), *versions.glob(f"{name}.*/bin/python")]
        for path in filter(None, paths):
            if not subprocess.run([path, "-c", ""], capture_output=True).returncode:
                found[name] = str(path)
    return list(found.values())


def test_the_digest_is_the_same_on_every_python(digest, tmp_path):
    assert digest(SOURCE) == DIGEST
    files = [tmp_path / "0.py", *sorted(PACKAGE.glob("*.py"))]
    functions = (cache._digest, cache._code, source_digest.__wrapped__)
    imports = "import ast, hashlib, io, json, sys, tokenize\nfrom pathlib import Path\n"
    code = "from __future__ import annotations\n" + imports + "from typing import Any\n"
    code += "".join(inspect.getsource(function) for function in functions).replace(
        "@functools.cache\n", ""
    )
    code += "print(json.dumps([source_digest(Path(path)) for path in sys.argv[1:]]))"
    others = pythons()
    for python in others:
        done = subprocess.run([python, "-c", code, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [source_digest(path) for path in files], python
    if not others:
        pytest.skip("no other Python on this machine")


def test_a_whole_cache_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    place, file = tmp_path / "run", tmp_path / "values"
    cache.compute_once(place, lambda folder: (folder / "a").write_text("1"))
    cache.values(file, ["x"], lambda names: dict.fromkeys(names, 1))
    for lock in tmp_path.glob("*.lock"):
        lock.unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a test may run as root
    monkeypatch.setattr(cache, "FileLock", lambda path: pytest.fail("it locked"))
    assert cache.compute_once(place, lambda folder: pytest.fail("it computed")) == place
    assert cache.values(file, ["x"], lambda names: pytest.fail("it computed")) == {"x": 1}


# --- what the campaign of faults (tests/faults) has found ---


@pytest.mark.parametrize("target", ["/nonexistent/x", "x"], ids=["to nothing", "to itself"])
def test_a_link_that_leads_nowhere_is_set_aside_before_the_work(target, tmp_path):
    (tmp_path / "x").symlink_to(tmp_path / target)
    with pytest.warns(UserWarning, match="x is damaged"):
        assert (compute_once(tmp_path / "x", write) / "a").read_text() == "first"


def test_a_pipe_is_no_file_and_does_not_hang(tmp_path):
    place = compute_once(tmp_path / "x", write)
    (place / "a").unlink()
    os.mkfifo(place / "a")
    assert not is_cached(place)
    os.mkfifo(tmp_path / "v")
    assert not is_cached(tmp_path / "v", ["a"])


def test_anothers_values_are_not_taken_for_ones_own(tmp_path):
    for name in "xy":
        values(tmp_path / name, ["a"], lambda _, name=name: {"a": name})
    shutil.copy(tmp_path / "x", tmp_path / "y")
    with pytest.warns(UserWarning, match="y is damaged .*another's"):
        assert values(tmp_path / "y", ["a"], lambda _: {"a": "y"}) == {"a": "y"}


def test_values_of_before_they_had_a_name_are_read(tmp_path):
    text = '{"a": 1}'
    head = json.dumps({"sha256": cache._digest(text.encode())})
    (tmp_path / "v").write_text(f"{head}\n{text}")
    assert values(tmp_path / "v", ["a"], fail) == {"a": 1}


def test_values_that_cannot_be_read_are_computed_again(tmp_path):
    values(tmp_path / "v", ["a"], lambda _: {"a": "no number"})
    with pytest.warns(UserWarning, match="v is damaged .*a: ValueError"):
        assert values(tmp_path / "v", ["a"], lambda _: {"a": "1"}, read=float) == {"a": 1.0}


def test_what_is_read_is_read_under_the_lock(tmp_path):
    def read(place: Path) -> str:
        with pytest.raises(Timeout):
            FileLock(tmp_path / "x.lock").acquire(timeout=0)
        return (place / "a").read_text()

    assert compute_once(tmp_path / "x", write, read) == "first"
    assert compute_once(tmp_path / "x", fail, read) == "first"


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / ".x-0a1b2c3d").mkdir()
    (tmp_path / ".x-0a1b2c3e").touch()
    others = [".x-0.1-0a1b2c3d", ".y-0a1b2c3d", "x-0a1b2c3d", ".x-note"]
    for name in others:
        (tmp_path / name).mkdir()
    compute_once(tmp_path / "x", write)
    assert {path.name for path in tmp_path.iterdir()} == {"x", "x.lock", *others}


@pytest.mark.parametrize("mask", [0o027, 0o077])
def test_files_have_the_users_umask(mask, tmp_path):
    def private(folder: Path) -> None:
        write(folder)
        (folder / "a").chmod(0o600)  # as safetensors does

    before = os.umask(mask)
    try:
        place = compute_once(tmp_path / "x", private)
        values(tmp_path / "v", ["a"], lambda _: {"a": 1})
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o777 == 0o777 & ~mask
    for path in (*place.iterdir(), tmp_path / "v"):
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_said(code, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(CacheError, match="No file can be locked there, .*VAE_NB_CACHE"):
        compute_once(tmp_path / "x", fail)


def test_the_home_of_nobody_is_named(monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", "~nobody-of-that-name/x")
    with pytest.raises(CacheError, match="VAE_NB_CACHE = ~nobody-of-that-name/x"):
        cache.folder()


def test_a_name_that_is_too_long_is_an_error_of_the_cache(tmp_path):
    with pytest.raises(CacheError, match="File name too long"):
        compute_once(tmp_path / ("x" * 300), fail)
