"""Bars are for somebody who looks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vae_nb import progress
from vae_nb.progress import Watcher


@pytest.mark.parametrize(
    ("kernel", "terminal", "variables", "wanted"),
    [
        (False, False, {}, False),
        (False, True, {}, True),
        (True, True, {}, False),  # papermill or the book: output is kept
        (True, False, {"JPY_SESSION_NAME": "x.ipynb"}, True),
        (True, False, {"JPY_SESSION_NAME": "x.ipynb", "VAE_NB_PROGRESS": "0"}, False),
        (False, False, {"VAE_NB_PROGRESS": "1"}, True),
    ],
)
def test_progress_is_for_somebody_who_looks(kernel, terminal, variables, wanted, monkeypatch):
    modules = {name: module for name, module in sys.modules.items() if name != "ipykernel"}
    monkeypatch.setattr(sys, "modules", modules | ({"ipykernel": None} if kernel else {}))
    for name in ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG", "VAE_NB_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert progress.is_wanted() is wanted


def test_a_bar_says_what_goes_on_or_nothing(capsys, monkeypatch):
    monkeypatch.setenv("VAE_NB_PROGRESS", "1")
    with progress.bar(3, "VAE, β = 0.01") as advance:
        for _ in range(3):
            advance()
    shown = capsys.readouterr().err
    assert "VAE, β = 0.01" in shown and "0/3" in shown
    with progress.bar(3, "VAE", show=False) as advance:
        advance()
    assert capsys.readouterr().err == ""


KERNEL = """
import sys, time
from vae_nb.progress import bar
with bar(40, sys.argv[1]) as advance:
    for _ in range(int(sys.argv[2])):
        advance()
        time.sleep(0.05)
"""


def watch(work, steps: int, terminal: bool = False) -> tuple[list[str], Watcher]:
    """What a watcher says of two processes, one after the other."""
    said: list[str] = []
    with Watcher(work, said.append, terminal) as watcher:
        for name in ("VAE, β = 0.1", "autoencoder"):
            command = [sys.executable, "-c", KERNEL, name, str(steps)]
            subprocess.run(command, env=os.environ | watcher.environment, check=True)
    return said, watcher


def test_what_other_processes_do_is_said_line_by_line():
    said, _ = watch({}, 10)
    assert [line.partition(":")[0] for line in said] == ["VAE, β = 0.1", "autoencoder"]
    assert all(line.endswith(" s") for line in said)


def test_in_a_terminal_there_is_one_bar_for_all_of_it(capsys):
    said, _ = watch({"VAE, β = 0.1": 30.0, "autoencoder": 10.0}, 40, terminal=True)
    shown = capsys.readouterr().err
    assert said == [] and "%" in shown
    assert "VAE, β = 0.1 " in shown and "/40" in shown  # which step of which training
    assert "100 %" in shown and "75 %" in shown  # after the first of the two


def test_what_is_left_follows_from_what_was_done(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    watcher = Watcher({"a": 30.0, "b": 60.0, "page": 10.0}, print, terminal=False)
    with watcher:
        assert watcher.left() is None  # nothing is done
        watcher.finish("a", "")
        assert watcher.left() is None  # it is too early to say
        clock[0] = 60.0
        assert watcher.left() == pytest.approx(140)  # 30 in a minute: 70 more
        (Path(watcher.environment[progress.REPORTED]) / "1.jsonl").write_text(
            json.dumps({"what": "b", "done": 1, "total": 2, "seconds": 9.0, "ended": False}) + "\n"
        )
        watcher._look()
        assert watcher.left() == pytest.approx(40)  # 60 in a minute: 40 more
        watcher.finish("page", "")
    assert progress.duration(140) == "about 2 min left"
    assert progress.duration(31) == "about 30 s left"


def test_what_no_bar_reports_counts_as_far_as_its_seconds_have_gone(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Watcher({"a": 50.0, "page": 100.0}, print, terminal=False) as watcher:
        watcher.begin("page")
        clock[0] = 50.0
        assert watcher.left() == pytest.approx(100)  # 50 of 150 are done
        clock[0] = 180.0
        assert watcher.left() == pytest.approx(120)  # never more than nine tenths of the page
        watcher.finish("page", "")
        assert watcher.left() == pytest.approx(90)


def test_half_a_line_is_read_when_it_is_whole():
    with Watcher({"a": 1.0}, print, terminal=False) as watcher:
        path = Path(watcher.environment[progress.REPORTED]) / "1.jsonl"
        line = json.dumps({"what": "a", "done": 1, "total": 2, "seconds": 1.0, "ended": False})
        path.write_text(line[:9])
        watcher._look()
        assert watcher._share == {"a": 0.0}
        path.write_text(line + "\n")
        watcher._look()
        assert watcher._share == {"a": 0.5}
