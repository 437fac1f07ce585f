"""The whole book as one PDF, printed by Chromium.

The book is built as a single page, from the outputs that an earlier build has kept where there are
any, and printed to ``book/_build/pdf/report.pdf``. How it looks on paper stands in
``book/_static/print.css``; title and contents come from ``book/_ext/one_page.py``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from vae_nb.commands import book_folder, build_command

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root with it; the page is our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--virtual-time-budget=60000",  # MathJax has so long in the page's time, not in the reader's
    "--generate-pdf-document-outline",
    "--no-pdf-header-footer",
)


def browser() -> str:
    """The path of a Chromium or Chrome. Raises FileNotFoundError where there is none."""
    for name in _BROWSERS:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(
        f"a PDF needs Chromium, and none of {', '.join(_BROWSERS)} is on the PATH: install it "
        "(Debian, Ubuntu: apt-get install chromium; Fedora: dnf install chromium; "
        "macOS: brew install --cask chromium), then run this again"
    )


def build(book: Path) -> Path:
    """Build ``book`` as a single page, and return the path of it. Raises RuntimeError."""
    done = subprocess.run(build_command(book, "--builder", "singlehtml"), check=False)
    page = book / "_build" / "singlehtml" / "index.html"
    if done.returncode or not page.is_file():
        raise RuntimeError(f"jupyter-book could not build {book} as one page; it said why above")
    return page


def print_page(page: Path, pdf: Path) -> int:
    """Print the HTML file ``page`` to ``pdf``, and return the number of its pages.

    It is printed twice: first to see on which page each chapter begins, then with these numbers in
    the contents. ``page`` is left with the numbers in it. Raises FileNotFoundError without a
    browser, RuntimeError where it fails.
    """
    from pypdf import PdfReader

    pdf.parent.mkdir(parents=True, exist_ok=True)
    _print(page, pdf)
    reader = PdfReader(pdf)
    starts = {
        name.removeprefix("/"): number + 1
        for name, place in reader.named_destinations.items()
        if (number := reader.get_destination_page_number(place)) is not None
    }
    text = page.read_text(encoding="utf-8")
    numbered = re.sub(
        r'(<span data-page-of="([^"]+)">)\d*(</span>)',
        lambda found: f"{found[1]}{starts.get(found[2], '')}{found[3]}",
        text,
    )
    if numbered != text:
        page.write_text(numbered, encoding="utf-8")
        _print(page, pdf)
    return len(PdfReader(pdf).pages)


def _print(page: Path, pdf: Path) -> None:
    pdf.unlink(missing_ok=True)  # an old one must not pass for the new one
    part = pdf.with_name(f".{pdf.name}")  # Chromium, if it is killed, leaves half of one
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser(),
                *_FLAGS,
                f"--user-data-dir={profile}",
                f"--print-to-pdf={part.resolve()}",
                page.resolve().as_uri(),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    if done.returncode or not part.is_file():
        raise RuntimeError(f"Chromium made no PDF of {page}; it said:\n{done.stderr.strip()}")
    os.replace(part, pdf)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb pdf``."""
    parser.add_argument("--book", help="the book's folder, if not beside the package")


def run(given: argparse.Namespace) -> int:
    """Build, print, and say where the PDF is."""
    browser()  # before the build, which may take long
    book = book_folder(given.book)
    pdf = book / "_build" / "pdf" / "report.pdf"
    pages = print_page(build(book), pdf)
    print(f"The report: {pdf}, {pages} pages")
    return 0
