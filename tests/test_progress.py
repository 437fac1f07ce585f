"""Bars are for somebody who looks."""

import sys

import pytest

from vae_nb import progress


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
