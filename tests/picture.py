"""The README's picture: the top of the built first page, as a reader sees it.

make book && make picture
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / ".github" / "first-page.png"
SIZE = {"width": 1280, "height": 900}


def main() -> int:
    """Take it in headless Chromium, in few colours: it is to be small."""
    page_of_book = ROOT / "book" / "_build" / "html" / "index.html"
    if not page_of_book.is_file():
        print("picture: the book is not built; `make book` builds it", file=sys.stderr)
        return 1
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(page_of_book.as_uri())
        page.wait_for_function("document.querySelector('.vae-says')?.textContent.length > 20")
        page.wait_for_timeout(500)  # the fonts
        taken = page.screenshot()
        browser.close()
    picture = Image.open(io.BytesIO(taken)).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    PICTURE.parent.mkdir(exist_ok=True)
    picture.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
