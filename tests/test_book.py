"""The whole book, built with quick parameters and warnings as errors: what its HTML must have."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

pytestmark = pytest.mark.slow

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = (
    "autoencoder",
    "beta_zero",
    "beta_ten",
    "beta_tuned",
    "interpolation",
    "representations",
)
ROWS = {
    "R1": {"fig-autoencoder-samples", "fig-autoencoder-reconstructions"},
    "R2": {"fig-beta-zero-curves", "fig-beta-zero-reconstructions", "fig-beta-zero-samples"},
    "R3": {
        "fig-beta-ten-curves",
        "fig-beta-ten-reconstructions",
        "fig-beta-ten-samples",
        "fig-beta-ten-interpolations",
    },
    "R4, R6, R7": {
        "fig-beta-tuned-curves",
        "fig-beta-tuned-reconstructions",
        "fig-beta-tuned-samples",
        "fig-beta-tuned-interpolations",
    },
    "R5": {"fig-interpolation-pairs", "fig-interpolation-distribution"},
    "R8": {"fig-representations-labels", "fig-representations-noise"},
    "all of beta": {"fig-beta-tuned-curve", "fig-beta-tuned-range", "fig-beta-tuned-strip"},
    "one model": {"fig-every-beta-curve", "fig-every-beta-film", "fig-every-beta-latents"},
}


@pytest.fixture(scope="module")
def pages(quick_book) -> dict[str, BeautifulSoup]:
    return {
        path.stem: BeautifulSoup(path.read_text(), "html.parser")
        for path in Path(quick_book).glob("*.html")
        if path.stem not in ("genindex", "search")
    }


def figures(page: BeautifulSoup) -> list:
    return page.select("figure.vae-figure")


def test_every_row_of_the_report_is_a_live_figure(pages):
    shown = {figure["id"] for page in pages.values() for figure in figures(page)}
    for row, names in ROWS.items():
        assert names <= shown, row


def test_every_figure_has_a_caption_a_number_and_words_for_those_who_cannot_see_it(pages):
    found = [figure for page in pages.values() for figure in figures(page)]
    assert len(found) >= 15
    for figure in found:
        alt = figure.img["alt"]
        assert len(alt) > 40 and ".png" not in alt and re.search(r"\d", alt)
        assert alt.strip() != figure.figcaption.select_one(".caption-text").text.strip()
        assert len(figure.figcaption.select_one(".caption-text").text) > 60
        assert figure.figcaption.select_one(".caption-number")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_answer_is_beside_its_live_figure(pages, chapter):
    (cell,) = pages[chapter].select(".cell.tag_answer > .cell_output")
    kinds = [child.get("class", [child.name])[0] for child in cell.find_all(recursive=False)]
    assert kinds[:2] == ["vae-answer", "vae-figure"] and kinds[-2:] == ["vae-claims", "vae-basis"]
    assert set(kinds[2:-2]) == {"p"}  # further evidence
    assert "What we see" in cell.select_one(".vae-answer").text or chapter == "beta_tuned"
    assert len(cell.select(".vae-claims tbody tr")) >= {
        "representations": 1,
        "interpolation": 2,
    }.get(chapter, 3)


def test_every_claim_has_a_verdict_in_its_chapter_and_on_the_page_of_claims(pages):
    claims = {
        f"C{q}.{n}" for q, count in enumerate((3, 3, 3, 4, 3, 2), 1) for n in range(1, count + 1)
    }

    def verdicts(page):
        rows = (row for row in page.select(".vae-claims tr") if row.select('[class^="verdict-"]'))
        return {row.td.text.strip()[:4]: row.select_one('[class^="verdict-"]').text for row in rows}

    in_chapters = {}
    for chapter in CHAPTERS:
        in_chapters |= verdicts(pages[chapter])
    assert in_chapters.keys() == claims
    assert verdicts(pages["claims"]) == in_chapters
    for row in pages["claims"].select(".vae-claims tr"):
        if row.select('[class^="verdict-"]'):
            assert row.td.a["href"].removesuffix(".html") in CHAPTERS


def test_the_colophon_has_every_claim(pages):
    tables = pages["colophon"].select("article table")
    rows = [[td.text.strip() for td in row.select("td")] for t in tables for row in t.select("tr")]
    claims = {row[0]: row[2] for row in rows if row and re.fullmatch(r"C\d\.\d", row[0])}
    first = {
        row.td.text.strip()[:4]: row.select_one('[class^="verdict-"]').text
        for row in pages["claims"].select(".vae-claims tr")
        if row.select('[class^="verdict-"]')
    }
    assert claims == first
    assert pages["colophon"].select_one("a.download")["href"].endswith("archive.json")


def test_every_public_function_of_the_modules_is_in_the_reference(pages):
    described = {name["id"] for name in pages["api"].select("dt.sig[id]")}
    for module in re.findall(r"automodule:: (\S+)", (BOOK / "api.md").read_text()):
        path = BOOK.parent / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        public = {
            f"{module}.{node.name}"
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        }
        assert public <= described, module


def test_the_first_page_shows_the_slider_then_the_questions_with_their_verdicts(pages):
    article = pages["index"].select_one("article")
    first = article.select_one(".vae-explorer, table, p")
    assert "vae-explorer" in first["class"]  # before any text
    rows = article.select(".vae-claims tbody tr")
    assert [row.a["href"].removesuffix(".html") for row in rows] == list(CHAPTERS[:5])
    assert all(row.a.text.endswith("?") for row in rows)
    claims = {name for row in rows for name in re.findall(r"C\d\.\d", row.text)}
    assert len(claims) == 17  # all but what the report argues in words only
    assert len(article.select("table [class^=verdict-]")) == 17
    assert not article.select(".cell:not(.tag_injected-parameters) .cell_input")


def test_the_chapter_on_beta_has_a_row_for_every_model_with_pictures_and_numbers(pages):
    tables = pages["beta_tuned"].select(".vae-claims table")
    table = next(each for each in tables if each.select("img.vae-thumbnail"))
    rows = {row.td.text: row for row in table.select("tbody tr")}
    asked = {"AE", "β = 0", "β = 0.01", "β = 0.1", "β = 0.2", "β = 10", "real images"}
    assert asked < {name.split(" (")[0] for name in rows}  # (what a row is known for)
    assert any("calibrated" in name for name in rows)
    for name, row in rows.items():
        pictures = row.select("img.vae-thumbnail")
        assert len(pictures) == (0 if name == "real images" else 2)
        assert all(name in picture["alt"] for picture in pictures)


QUIZ = yaml.safe_load(Path(__file__).with_name("quiz.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("asked", QUIZ, ids=lambda asked: asked["question"])
def test_the_pages_answer_what_a_course_would_ask(pages, asked):
    text = " ".join(pages[asked["page"]].select_one("main").get_text().split())
    assert re.search(asked["answer"], text)
    assert len(QUIZ) == 15


def test_no_traceback_no_unresolved_markup_and_no_progress_bar(pages):
    for name, page in pages.items():
        article = copy.copy(page.select_one("article"))
        assert "Traceback" not in article.text, name
        for quoted in article.select("code.literal"):  # names a role on purpose
            quoted.decompose()
        assert not re.search(r"\{(numref|doc|cite|term)", article.text), name
        assert not page.select(".stderr"), name


def test_nothing_comes_from_a_network(pages):
    for name, page in pages.items():
        for tag, attribute in (("script", "src"), ("link", "href"), ("img", "src")):
            for element in page.find_all(tag):
                address = element.get(attribute, "")
                assert not re.match(r"(https?:)?//", address), (name, address)


# --- statements that occur on more than one page ---


def words(page: BeautifulSoup) -> str:
    return re.sub(r"\s+", " ", page.select_one("article").text)


def row_of(page: BeautifulSoup, name: str, inside: str = "table") -> list[str]:
    """The cells of the first row whose first cell begins with a name."""
    rows = (row.select("td") for row in page.select(f"{inside} tbody tr"))
    return next(
        [re.sub(r"\s+", " ", cell.text).strip() for cell in cells]
        for cells in rows
        if cells and cells[0].text.strip().split(" (")[0] == name
    )


def of_model(model: str, column: int) -> tuple[str, str, int]:
    """A cell of the table of models, in the chapter on beta; columns count from the end."""
    return ("beta_tuned", model, column)


# What is said, and where: a pattern with one number, or a cell of a table (page, row, column).
STATEMENTS = {
    "error of the autoencoder": [
        ("autoencoder", r"AE: ([\d.]+)\."),
        ("beta_zero", r"the autoencoder’s ([\d.]+)\. "),
        of_model("AE", -8),
    ],
    "share of the autoencoder's samples that is recognised": [
        ("autoencoder", r"The classifier takes (\S+ %) for characters"),
        ("judge", "AE", -1),
        of_model("AE", -1),
    ],
    "FID of the autoencoder": [
        ("autoencoder", r"it is ([\d,]+), from the mixture"),
        of_model("AE", -2),
    ],
    "FID at beta = 0": [
        ("beta_zero", r"the FID of samples goes from ([\d,]+) to"),
        of_model("β = 0", -2),
    ],
    "error at beta = 10": [
        ("beta_ten", r"The error is ([\d.]+)\. The variance"),
        of_model("β = 10", -7),
    ],
    "share of samples at beta = 0.1 that is recognised": [
        ("beta_tuned", r"the classifier takes (\S+ %) for one"),
        ("judge", "β = 0.1", -1),
        of_model("β = 0.1", -1),
    ],
    "FID at beta = 0.1": [
        ("beta_tuned", r"this β has ([\d,]+)\. At the lower"),
        of_model("β = 0.1", -2),
    ],
    "rate at beta = 0.1": [
        ("every_beta", "rate, nats", -1),
        of_model("β = 0.1", -6),
    ],
    "share of real images that is recognised": [
        ("judge", "real images", -1),
        of_model("real images", -1),
    ],
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_no_page_says_a_number_that_another_denies(pages, statement):
    found = {}
    for place in STATEMENTS[statement]:
        page, what, *column = place
        if column:
            table = ".vae-claims table:has(.vae-thumbnail)" if page == "beta_tuned" else "table"
            value = row_of(pages[page], what, table)[column[0]]
        else:
            value = re.search(what, words(pages[page])).group(1)
        found[place] = value.split(" [")[0]
    assert len(set(found.values())) == 1 and len(found) > 1, found
