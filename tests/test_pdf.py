"""A small book as a PDF: what is on its pages, where its links lead, and no figure cut."""

from __future__ import annotations

import base64
import io
import re
import shutil
import textwrap
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from matplotlib.image import imsave
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pypdf import PdfReader

from vae_nb.__main__ import main
from vae_nb.commands import pdf

ROOT = Path(__file__).resolve().parents[1]
TITLES = ["A small book", "1. First of all", "2. Second of all", "The last word"]
FIGURES = 9  # enough for several pages
MARGINS = 48.0  # points; the style sheet says 17 mm and more


def height(number: int) -> int:
    return 440 + 45 * number  # pages end at many places of figures


def picture(number: int) -> str:
    buffer = io.BytesIO()
    pixels = np.full((height(number), 960), number / FIGURES)
    imsave(buffer, pixels, vmin=0, vmax=1, cmap="gray", format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def chapter(title: str, first: int, last: int) -> nbformat.NotebookNode:
    """A page with figures that an earlier run left in it, a formula, and a section "Summary"."""
    cells = [
        new_markdown_cell(
            f"# {title}\n\nA formula: $\\frac{{1}}{{\\beta}}$. [](#sum-{first}) "
            "{cite:p}`kingma2014` {cite:p}`rezende2014` {cite:p}`burda2016`"
        ),
        new_code_cell("raise SystemExit('this cell must not run')", metadata={"tags": []}),
    ]
    for number in range(first, last):
        caption = f"Caption {number} " + "and it goes on like this, line after line, " * 12
        words = {"name": f"fig-{number}", "caption": f"{caption}End.", "alt": f"It is {number}"}
        data = {"image/png": picture(number), "text/plain": words["alt"]}
        metadata = {"image/png": {"vae_nb": words, "width": 480}}
        output = new_output("display_data", data, metadata=metadata)
        cells.append(new_code_cell(f"show({number})", outputs=[output], execution_count=1))
    cells.append(new_markdown_cell(f"(sum-{first})=\n## Summary\n\nThe end of {title}."))
    return new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python"},
            "language_info": {"name": "python", "pygments_lexer": "ipython3"},
        },
    )


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> tuple[Path, PdfReader]:
    """The book's folder and its PDF."""
    book = tmp_path_factory.mktemp("pdf") / "book"
    book.mkdir()
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())
    config |= {"title": TITLES[0], "execute": {"execute_notebooks": "off"}}
    extensions = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = {
        name: str(ROOT / "book" / folder) for name, folder in extensions.items()
    }
    (book / "_config.yml").write_text(yaml.safe_dump(config))
    (book / "_toc.yml").write_text(
        textwrap.dedent(
            """
            format: jb-book
            root: index
            parts:
              - {caption: Chapters, numbered: true, chapters: [{file: first}, {file: second}]}
              - {caption: Appendix, chapters: [{file: last}]}
            """
        )
    )
    (book / "index.md").write_text(f"# {TITLES[0]}\n\n[](first.ipynb), [](#sum-5)\n")
    (book / "last.md").write_text(f"# {TITLES[3]}\n\n## Summary\n\n```{{bibliography}}\n```\n")
    shutil.copy(ROOT / "book" / "references.bib", book)
    nbformat.write(chapter("First of all", 0, 5), book / "first.ipynb")
    nbformat.write(chapter("Second of all", 5, FIGURES), book / "second.ipynb")
    assert main(["pdf", "--book", str(book)]) == 0
    return book, PdfReader(book / "_build" / "pdf" / "report.pdf")


def texts(reader: PdfReader) -> list[str]:
    """The text of each page; its number, at the foot, comes first."""
    return [" ".join(page.extract_text().split()) for page in reader.pages]


@pytest.mark.slow
@pytest.mark.browser
def test_a_title_page_has_each_chapter_with_the_page_where_it_begins(printed):
    first, *pages = texts(printed[1])
    assert 6 <= 1 + len(pages) <= 12
    for title in TITLES:
        begins = [n for n, text in enumerate(pages, 2) if text.startswith(f"{n} {title}")]
        assert len(begins) == 1, title
        assert re.search(rf"{re.escape(title)} {begins[0]}\b", first), (title, first)


@pytest.mark.slow
@pytest.mark.browser
def test_every_page_has_its_number(printed):
    for number, text in enumerate(texts(printed[1]), 1):
        assert text.startswith(f"{number} ")


@pytest.mark.slow
@pytest.mark.browser
def test_no_figure_is_cut_and_each_has_its_caption_below_it(printed):
    boxes = []
    for page in printed[1].pages:
        here = []

        def keep(operator, operands, matrix, _, page=page, here=here):
            if operator != b"Do":
                return
            drawn = page["/Resources"]["/XObject"][operands[0]].get_object()
            if drawn["/Subtype"] == "/Image" and drawn["/Width"] == 960:
                here.append((matrix, page.mediabox))

        text = page.extract_text(visitor_operand_before=keep)
        assert len(re.findall(r"Caption \d", text)) == len(re.findall(r"End\.", text)) == len(here)
        boxes += here
    assert len(boxes) == FIGURES  # one that spans two pages is drawn on both
    for number, ((width, _, _, tall, left, bottom), paper) in enumerate(boxes):
        assert width / tall == pytest.approx(960 / height(number), rel=0.01)
        assert left >= MARGINS and left + width <= paper.width - MARGINS
        assert bottom >= MARGINS and bottom + tall <= paper.height - MARGINS


@pytest.mark.slow
@pytest.mark.browser
def test_maths_is_typeset(printed):
    book, reader = printed
    assert not any("frac" in text for text in texts(reader))
    assert r"\frac" in (book / "_build" / "singlehtml" / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.browser
def test_links_lead_to_where_they_say(printed):
    book, reader = printed
    pages = texts(reader)
    places = {
        name.removeprefix("/"): pages[reader.get_destination_page_number(place)]
        for name, place in reader.named_destinations.items()
    }
    targets = []
    for page in reader.pages:
        for annotation in (each.get_object() for each in page.get("/Annots") or []):
            if "/Dest" in annotation:
                targets.append(str(annotation["/Dest"]).removeprefix("/"))
            elif "/A" in annotation:
                assert str(annotation["/A"]["/URI"]).startswith("https://")
    assert len(targets) >= 10 and set(targets) <= set(places)
    assert "The end of First of all." in places["sum-0"]
    assert "The end of Second of all." in places["sum-5"]

    # Each chapter's first citation has the id "id1", and so has an entry of the list.
    html = (book / "_build" / "singlehtml" / "index.html").read_text()
    article = BeautifulSoup(html, "html.parser").article
    ids = [element["id"] for element in article.select("[id]")]
    assert len(ids) == len(set(ids))
    cited = [link for link in article.select("a[href^='#']") if "Burda" in link.text]
    assert len(cited) == 2
    for link in cited:
        assert "Importance weighted" in article.find(id=link["href"][1:]).text


def test_without_a_browser_one_line_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    assert main(["pdf", "--book", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("vae-nb pdf: ") and said.count("\n") == 1
    assert "apt-get install chromium" in said
    assert not list(tmp_path.iterdir())


def test_half_a_pdf_has_another_name(tmp_path, monkeypatch):
    out = tmp_path / "report.pdf"
    out.write_text("an old one")

    def killed(command, **_):
        (target,) = (each for each in command if each.startswith("--print-to-pdf="))
        Path(target.partition("=")[2]).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pdf.subprocess, "run", killed)
    monkeypatch.setattr(pdf, "browser", lambda: "chromium")
    with pytest.raises(KeyboardInterrupt):
        pdf._print(tmp_path / "page.html", out)
    assert not out.exists()
