"""The slides: built from the notebooks, opened by a browser that is cut off from every network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "sphinx_revealjs", reason="the slides' packages are missing: `uv sync`, or `pip install --group book`"
)

from browser import CHROMIUM_ARGS

ROOT = Path(__file__).parents[1]
FITS = """() => {
  const slide = Reveal.getCurrentSlide(), frame = slide.getBoundingClientRect(), picture = slide.querySelector('img');
  const seen = [...slide.querySelectorAll('h1, h2, p, li, img, pre, td')].filter(e => !e.closest('aside'));
  const out = seen.filter(e => { const r = e.getBoundingClientRect();
    return r.bottom > frame.bottom + 1 || r.right > frame.right + 1 || r.left < frame.left - 1; });
  const wide = [...slide.querySelectorAll('pre')].filter(e => e.scrollWidth > e.clientWidth + 1);
  return {title: slide.innerText.slice(0, 40), cut: [...out, ...wide].map(e => e.innerText || e.alt),
          picture: picture && picture.getBoundingClientRect().height};
}"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("slides")
    command = [sys.executable, "-m", "ltlab.cli", "slides", "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.html"))}


def test_there_is_a_deck_for_each_notebook_with_notes_and_a_text_for_every_picture(decks):
    assert list(decks) == [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for name, deck in decks.items():
        pages = re.findall(r"<section>(.*?)</section>", deck, re.DOTALL)
        assert 8 <= len(pages) <= 15, name
        assert sum('<aside class="notes">' in page for page in pages) >= 4
        assert any("Predict" in page for page in pages) and "<h2>Summary</h2>" in pages[-1]
        for picture in re.findall(r"<img [^>]*?src=", "".join(pages)):
            assert re.search(r'alt="[^"]+"', picture)
        assert not re.search(r"(src|href)=.?https?:|\$\$|@import url\(.?https?:", "".join(pages)), name


def test_an_unknown_notebook_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import slides

    with pytest.raises(ValueError, match="'99'"):
        slides.build(tmp_path, ["99"])


@pytest.mark.slow
@pytest.mark.browser
def test_nothing_is_cut_off_and_nothing_is_fetched(decks, chromium, tmp_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGS))
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        fetched, errors = [], []
        page.on("request", lambda request: fetched.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name, deck in decks.items():
            path = tmp_path / f"{name}.html"
            path.write_text(deck, encoding="utf-8")
            page.goto(path.as_uri())
            page.wait_for_function("window.Reveal && Reveal.isReady()")
            for number in range(page.evaluate("Reveal.getTotalSlides()")):
                page.evaluate(f"Reveal.slide({number}, 0, 99)")
                found = page.evaluate(FITS)
                assert not found["cut"], (name, number, found)
                assert found["picture"] is None or found["picture"] >= 180, (name, number, found)
        assert not errors and not [url for url in fetched if not url.startswith(("file:", "data:", "blob:"))]
        browser.close()
