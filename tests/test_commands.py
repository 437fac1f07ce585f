"""The one command line: what it loads, how it fails, and that `make rerun` runs nothing else."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from filelock import FileLock

from vae_nb import __main__ as door
from vae_nb import cache as store
from vae_nb.commands import build_command, cache, child_command, exercises, literal

ROOT = Path(__file__).resolve().parents[1]


def test_help_loads_no_command_and_no_torch():
    script = (
        "import sys; from vae_nb.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "print('loaded:', *(set(sys.modules) & {'torch', 'numpy', 'nbformat', 'vae_nb.commands'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "loaded:", done.stdout + done.stderr
    for name in door.COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", door.COMMANDS)
def test_every_command_has_its_help(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        door.main([name, "--help"])
    assert f"usage: vae-nb {name}" in capsys.readouterr().out


def test_the_installed_command_is_the_module():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"vae-nb": f"{door.__name__}:{door.main.__name__}"}


def _wrapped() -> RuntimeError:
    """What Python 3.11 makes of an interrupt while a class is made."""
    error = RuntimeError("Error calling __set_name__ on 'cached_property' instance 'x' in 'Y'")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("no"), 1, "vae-nb exercises: no\n"),
        (RuntimeError("no"), 1, "vae-nb exercises: no\n"),
        (store.CacheError(28, "no space"), 1, "vae-nb exercises: [Errno 28] no space\n"),
        (subprocess.TimeoutExpired("x", 3), 1, "vae-nb exercises: Command 'x' timed out"),
        (KeyboardInterrupt(), 130, "\nvae-nb exercises: interrupted\n"),
        (KeyboardInterrupt("resume"), 130, "\nvae-nb exercises: interrupted; resume\n"),
        (_wrapped(), 130, "\nvae-nb exercises: interrupted\n"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(error, code, message, monkeypatch, capsys):
    def fail(given):
        raise error

    monkeypatch.setattr(exercises, "run", fail)
    assert door.main(["exercises"]) == code
    assert capsys.readouterr().err.startswith(message)


def test_a_fault_of_the_package_has_its_traceback(monkeypatch):
    monkeypatch.setattr(exercises, "run", lambda given: {}["fault"])
    with pytest.raises(KeyError, match="fault"):
        door.main(["exercises"])


@pytest.mark.parametrize("arguments", [[], ["rerum"], ["cache"], ["sweep", "--seeds", "x"]])
def test_wrong_usage_is_one_line_and_code_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        door.main(arguments)
    error = capsys.readouterr().err
    assert error.startswith("vae-nb") and error.count("\n") == 1 and "--help" in error


def test_jupyter_book_is_started_by_this_python(tmp_path):
    command = build_command(tmp_path, "-q")
    assert command[0] == sys.executable and command[-3:] == ["build", str(tmp_path), "-q"]


# --- the cache ---


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """A cache with an old and a new run, a file, a damaged folder and one of a killed process."""
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    record = '{"recipe": {"model": "vae", "beta": 0.1, "seed": 3, "dataset": "MNIST"}}'
    runs = tmp_path / "runs"
    for name in ("old", "new"):
        write = lambda place: (place / "recipe.json").write_text(record)  # noqa: E731
        store.compute_once(runs / name, write)
    for name in ("damaged-x-1", ".x-ab12"):
        (runs / name).mkdir()
    store.values(tmp_path / "rows" / "abc", ["row"], lambda _: {"row": 1})
    for path in (*(runs / "old").iterdir(), runs / "old"):
        os.utime(path, (1e9, 1e9))
    return tmp_path


def names(folder: Path) -> set[str]:
    found = [path for kind in folder.iterdir() for path in kind.iterdir()]
    return {path.name for path in found if path.suffix != ".lock"}


def test_the_cache_is_listed_and_measured(kept, capsys):
    assert door.main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("ago")[1].split()[0] for line in lines] == [
        *("rows/abc", "runs/.x-ab12", "runs/damaged-x-1", "runs/new", "runs/old")
    ]
    assert lines[-1].endswith("model vae, beta 0.1, seed 3, dataset MNIST")
    assert door.main(["cache", "size"]) == 0
    *kinds, total = capsys.readouterr().out.splitlines()
    assert [kind.split("MB")[1].strip() for kind in kinds] == ["rows (1)", "runs (4)"]
    assert total.endswith(str(kept))


def test_pruning_removes_the_unused_and_the_broken_only(kept, capsys):
    everything = names(kept)
    assert door.main(["cache", "list"]) == 0  # looking is no use
    assert door.main(["cache", "prune", "--dry-run"]) == 0
    assert names(kept) == everything and "3 entries" in capsys.readouterr().out
    assert door.main(["cache", "prune"]) == 0
    assert names(kept) == {"new", "abc"}
    assert door.main(["cache", "prune", "--days", "0"]) == 0
    assert names(kept) == set()


def test_pruning_leaves_alone_what_is_being_computed(kept):
    with FileLock(kept / "runs" / "x.lock"), FileLock(kept / "runs" / "old.lock"):
        removed = {path.name for path in cache.prune()}
    assert removed == {"damaged-x-1"} and {"old", ".x-ab12"} <= names(kept)


# --- make rerun ---

HOSTILE = [
    "1; touch x",
    "$(shell touch x)",
    "$$(touch x)",
    "`touch x`",
    "$(touch x)",
    "1 && touch x",
    "' ; touch x ; '",
    '" ; touch x ; "',
    "1\ntouch x",
    "1 # \\",
    "*",
    "${PATH}",
]


@pytest.fixture
def make(tmp_path):
    """``make(*arguments)``: the words that the real Makefile hands to Python."""
    if shutil.which("make") is None:
        pytest.skip("no make on this system")
    folder = tmp_path / "a folder"  # of a user who has spaces in his path
    stub = folder / "stub" / "python"
    stub.parent.mkdir(parents=True)
    stub.write_text(
        f'#!{sys.executable}\nimport sys\nprint(*map(ascii, sys.argv[1:]), sep="\\n")\n'
    )
    stub.chmod(0o755)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt", "venv/created", "venv/installed"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()

    def run(*arguments: str, **environment: str) -> list[str]:
        before = sorted(folder.iterdir())
        command = ["make", "-s", "rerun", "VENV=venv", "BIN=stub", *arguments]
        done = subprocess.run(
            command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
        )
        assert sorted(folder.iterdir()) == before, "something was run"
        assert done.returncode == 0, done.stdout + done.stderr
        return [ast.literal_eval(line) for line in done.stdout.splitlines()]

    return run


def test_make_hands_words_to_the_command(make):
    start = ["-m", "vae_nb", "rerun"]
    assert make("CHAPTER=toy") == [*start, "toy"]
    found = make("CHAPTER=toy", "BETA=0.5 1  2", "ARGS=-p epochs 1 -p start_labels [3,5]")
    words = ["--beta", "0.5", "1", "2", "-p", "epochs", "1", "-p", "start_labels", "[3,5]"]
    assert found == [*start, "toy", *words]


@pytest.mark.parametrize("text", HOSTILE)
def test_make_runs_nothing_that_is_handed_to_it(text, make):
    words = text.split()
    assert make("CHAPTER=toy", f"BETA={text}")[4:] == ["--beta", *words]
    assert make("CHAPTER=toy", f"ARGS=-p a {text}")[4:] == ["-p", "a", *words]
    assert make(f"CHAPTER={text}")[3:] == [text]
    assert make(CHAPTER="toy", BETA=text)[4:] == ["--beta", *words]


LIGHT = """
import sys
from vae_nb import commands
with commands.light_imports():
    import nbformat
    nbformat.validate(nbformat.v4.new_notebook())
assert "rfc3987_syntax" not in sys.modules and "lark" not in sys.modules
import json  # what is there already stays as it is
commands._SLOW = "json"
with commands.light_imports():
    assert sys.modules["json"] is json
assert sys.modules["json"] is json
"""


def test_reading_a_notebook_does_not_build_a_grammar():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    child = child_command("import jsonschema; print(sorted({'lark'} & sys.modules.keys()))")
    assert subprocess.run(child, capture_output=True, text=True).stdout == "[]\n"


# --- the end of a command, and of what it has started ---

# A command that starts a child as a build is started, and waits for it.
STARTS = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in the background
from vae_nb import __main__ as door
from vae_nb import commands
from vae_nb.commands import exercises
def run(given):
    child = "print('here', os.getpid(), flush=True)\\ntime.sleep(60)"
    return subprocess.run(commands.child_command(child)).returncode
exercises.run = run
sys.exit(door.main(["exercises"]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGKILL", -9), ("SIGINT", 130)])
def test_what_a_command_has_started_ends_with_it(number, code):
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline().split()[1])
    process.send_signal(getattr(signal, number))
    assert process.wait(60) == code
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2][:3]:
            break  # ended, and nobody has asked how
        time.sleep(0.1)
    else:
        assert not Path(f"/proc/{child}").exists()
    process.communicate()


def test_a_large_cache_is_mentioned(kept, monkeypatch, capsys):
    monkeypatch.setattr(exercises, "run", lambda given: 0)
    assert door.main(["exercises"]) == 0 and capsys.readouterr().err == ""
    monkeypatch.setattr(cache, "LARGE", 100)
    assert door.main(["exercises"]) == 0
    assert "the cache holds 0.0 MB; `vae-nb cache prune`" in capsys.readouterr().err


def test_links_and_what_vanishes_do_not_stop_the_cache_commands(kept, capsys):
    (kept / "runs" / "link").symlink_to("/nonexistent/x")
    (kept / "runs" / "damaged-link-1").symlink_to(kept / "runs" / "new")
    for action in ("list", "size", "prune"):
        assert door.main(["cache", action]) == 0
    assert names(kept) == {"new", "abc", "link"}
    assert door.main(["cache", "prune", "--days", "nan"]) == 1
    assert "--days nan is not allowed" in capsys.readouterr().err


def test_a_data_set_in_use_is_not_pruned(kept):
    raw = kept / "data" / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    with FileLock(raw.with_name("raw.lock")):
        cache.prune(days=0)
        assert raw.exists()
    cache.prune(days=0)
    assert not raw.exists()


@pytest.mark.parametrize(
    "text", ["x", "`<img src=x onerror=alert(1)>`", "``", "<script>", "\n\n# x\n", "a ``` b"]
)
def test_literal_text_is_text(text):
    from markdown_it import MarkdownIt

    page = MarkdownIt("commonmark", {"html": True}).render(f"before {literal(text)} after")
    (code,) = BeautifulSoup(page, "html.parser").find_all("code")
    assert code.get_text() == " ".join(text.split()) and not code.find_all()
    assert not BeautifulSoup(page, "html.parser").find_all(["img", "script", "h1"])
