"""Would the newest Jupyter Book build this book? Tried on a copy; says what it saw, never fails.

    make canary

The book stays with Jupyter Book 1.x: its pages open from a file, without a server, and its
Sphinx extensions run. This shows what is still in the way of the next one.
"""

from __future__ import annotations

import collections
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

BOOK = Path(__file__).resolve().parents[1] / "book"
PROBLEM = re.compile(r"(?:unknown|unexpected) \w+:? \"?[\w:-]+")


def main() -> int:
    """Install it into an environment of its own, build a copy, and count what it complains of."""
    with tempfile.TemporaryDirectory() as scratch:
        environment, copy = Path(scratch, "environment"), Path(scratch, "book")
        shutil.copytree(BOOK, copy, ignore=shutil.ignore_patterns("_build"))
        venv.create(environment, with_pip=True)
        programs = environment / ("Scripts" if sys.platform == "win32" else "bin")
        pip = [programs / "python", "-m", "pip", "install", "--quiet", "jupyter-book>=2"]
        if subprocess.run(pip, check=False).returncode:
            print("canary: Jupyter Book 2 is not available here; nothing was tried")
            return 0
        said, code = "", 0
        for words in (["init", "--site"], ["build", "--html"]):  # the first migrates the settings
            command = [programs / "jupyter-book", *words]
            options = {"capture_output": True, "text": True, "timeout": 600, "check": False}
            try:
                done = subprocess.run(command, cwd=copy, input="y\n" * 9, **options)
            except subprocess.TimeoutExpired:
                print(f"canary: {' '.join(words)} did not finish within ten minutes")
                return 0
            said, code = said + done.stdout + done.stderr, done.returncode
        problems = collections.Counter(PROBLEM.findall(said))
        for problem, count in problems.most_common():
            print(f"canary: {count} times: {problem}")
        pages = list(copy.glob("_build/html/**/*.html"))
        print(f"canary: exit code {code}, {len(pages)} pages")
        if not pages:
            print("canary: it made no page; it ended with:", *said.splitlines()[-3:], sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
