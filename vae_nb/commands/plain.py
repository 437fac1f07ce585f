"""A chapter in plain Markdown: it reads well where no extension knows MyST.

Boxes become quotations, hints fold, terms are words, citations have their names, and links lead to
the pages from where the notebook lies.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

_ROLE = re.compile(r"\{([a-z]+)(?::([a-z]))?\}`([^`]+)`")
_BLOCK = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>[a-z]+)\} ?(?P<title>[^\n]*)\n"
    r"(?P<options>(?::[a-z]+:[^\n]*\n)*)(?P<body>.*?)\n?^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)\s]+)\)")


def markdown(text: str, book: Path, folder: Path, beside: Collection[str] = ()) -> str:
    """``text``, of a page in ``book``, as plain Markdown for a notebook in ``folder``.

    ``beside`` are the names of the pages that lie in ``folder`` as well. Raises :class:`ValueError`
    that names a role or a directive that has no plain form.
    """
    text = _BLOCK.sub(_block, text)
    text = _ROLE.sub(lambda found: _role(found[1], found[2] or "", found[3], book), text)
    return _LINK.sub(lambda found: f"]({_link(found[1], book, folder, beside)})", text)


def _block(found: re.Match[str]) -> str:
    kind, body = found["kind"], found["body"].strip()
    label = re.search(r":label: (\S+)", found["options"])
    if kind not in _BLOCKS:
        raise ValueError(f"the directive {kind} has no plain form; add one to {__name__}")
    return _BLOCKS[kind](body, label[1] if label else found["title"])


_BLOCKS: dict[str, Callable[[str, str], str]] = {
    "admonition": lambda body, title: _quoted(f"**{title}**\n\n{body}"),
    "exercise": lambda body, title: f"### Exercise `{title}`\n\n{body}",
    "hint": lambda body, _: f"<details><summary>Hint</summary>\n\n{body}\n\n</details>",
}


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def _role(name: str, kind: str, content: str, book: Path) -> str:
    if name == "term":
        return re.sub(r"\s*<.*>$", "", content)
    if name == "download":
        return content.partition("<")[0].strip()
    if name != "cite":
        raise ValueError(f"the role {name} has no plain form; add one to {__name__}")
    cited = [_citation(key.strip(), book) for key in content.split(",")]
    if kind == "t":
        return " and ".join(f"{names} ({year})" for names, year in cited)
    return "(" + "; ".join(f"{names}, {year}" for names, year in cited) + ")"


def _citation(key: str, book: Path) -> tuple[str, str]:
    entry = _bibliography(book / "references.bib").entries[key]
    names = [" ".join(person.prelast_names + person.last_names) for person in _authors(entry)]
    if len(names) > 2:
        names = [f"{names[0]} et al."]
    return " and ".join(names), entry.fields["year"]


def _authors(entry: Any) -> Any:
    return entry.persons.get("author") or entry.persons["editor"]


@functools.cache
def _bibliography(path: Path) -> Any:
    from pybtex.database import parse_file

    return parse_file(str(path))


def _link(target: str, book: Path, folder: Path, beside: Collection[str]) -> str:
    page, mark, place = target.partition("#")
    if page in beside or not (book / page).exists():
        return target
    return Path(os.path.relpath(book / page, folder)).as_posix() + mark + place
