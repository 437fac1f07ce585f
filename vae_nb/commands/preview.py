"""The whole book from archived models: none of the report's is trained or measured.

    vae-nb preview             # build it, into build/preview/
    vae-nb preview --archive   # archive the models of this machine's default build

The build itself unpacks the models (``side_by_side.py`` of the book), and only if a page has to be
run: after an edit of prose nothing needs them. The playground trains a small network all the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from vae_nb import cache
from vae_nb.commands import book_folder, build_command

PREVIEW = "VAE_NB_PREVIEW"  # in the environment of a build: what its pages say of their models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb preview``."""
    parser.add_argument("--book", help="the book's folder, if not beside the package")
    parser.add_argument("--output", type=Path, default=Path("build/preview"))
    parser.add_argument(
        "--archive",
        action="store_true",
        help="keep the models of this machine's default build as the archived ones",
    )


def run(given: argparse.Namespace) -> int:
    """Build, or keep the models of this machine."""
    if given.archive:
        from vae_nb import archived_models

        print(f"{archived_models.CARRIED}: {archived_models.archive() / 1e6:.1f} MB")
        return 0
    target = cache.folder() / "preview"
    command = build_command(book_folder(given.book), "--path-output", str(given.output))
    environment = os.environ | {"VAE_NB_CACHE": str(target), PREVIEW: "1"}
    code = subprocess.run(command, env=environment, check=False).returncode
    if code == 0:
        print(f"The preview: {given.output.resolve() / '_build' / 'html' / 'index.html'}")
    return code
