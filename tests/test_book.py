"""The book: built by its command, read by a browser that is cut off from every network."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import ltlab
from ltlab import cli
from ltlab.cli import teaching

pytest.importorskip("myst_nb", reason="the book's packages are missing: `uv sync`, or `pip install --group book`")

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs" / "book"), str(ROOT / "docs" / "book" / "_ext")]
try:
    import docstrings
    import mathml
    import moving
    import pages
finally:
    del sys.path[:2]

# --- its parts -------------------------------------------------------------------------------------------------------


def picture_cell(source: str, text: str = "<Figure size 800x400 with 1 Axes>"):
    return new_code_cell(source, outputs=[new_output("display_data", {"image/png": "", "text/plain": text})])


def alt(cell, *following: str) -> str:
    notebook = new_notebook(cells=[cell, *map(new_markdown_cell, following)])
    pages.prepare(notebook, {})
    return cell.metadata["mystnb"]["image"]["alt"]


def test_pictures_get_their_text_from_the_explorer_or_the_drawing_function_or_the_sentence_below():
    assert alt(picture_cell("explorer", "imbalance 1: 10 classes")) == "imbalance 1: 10 classes"
    assert alt(picture_cell("%matplotlib inline\nplots.image_grid(images, columns=2);")).startswith(
        "Images side by side"
    )
    both = alt(picture_cell("plots.class_counts(a)\nplots.confusion_matrix(b)"))
    assert both.startswith("Training images per class") and "Heat map" in both
    assert alt(picture_cell("draw(x)"), "The *norms* fall with $n_c$.\nAnd more.") == "The norms fall with n_c."
    with pytest.raises(ValueError, match="no words for the picture"):
        alt(picture_cell("draw(x)"))


def test_a_moving_figure_takes_the_picture_s_place_and_a_missing_one_is_an_error():
    cell = picture_cell("explorer = widgets.beta_explorer()\nexplorer", "alpha 1")
    pages.prepare(new_notebook(cells=[cell]), {"beta_explorer": "<b>moves</b>"})
    assert [output.data for output in cell.outputs] == [{"text/html": "<b>moves</b>"}]
    with pytest.raises(ValueError, match="no cell shows the explorer of beta_explorer"):
        pages.prepare(new_notebook(), {"beta_explorer": ""})


def test_badges_become_links():
    badge = "[![Open in Colab](https://a.b/c.svg)](https://d.e/f.ipynb)"
    assert pages.without_badges(f"x {badge} y ![z](w.png)") == "x [Open in Colab](https://d.e/f.ipynb) y ![z](w.png)"


def test_a_picture_that_a_cell_carries_along_is_written_out():
    cell = new_markdown_cell("![a car](attachment:car.png)", attachments={"car.png": {"image/png": "AAAA"}})
    pages.prepare(new_notebook(cells=[cell]), {})
    assert cell.source == "![a car](data:image/png;base64,AAAA)"


def test_docstrings_keep_formulas_and_tables_and_their_signs():
    lines = ["With `a*b` and *args, n_", "", "    x_c = 1", "", "Args:", "    x: (N, C)", "    y: |x|", ""]
    lines += ["| a         | b   |", "|-----------|-----|", "| -log x_c  | `c` |"]
    assert docstrings.as_rest(lines) == [
        r"With `a*b` and \*args, n\_", "", "::", "", "        x_c = 1", "", "Args:", "    x: (N, C)", r"    y: \|x\|",
        "", ".. list-table::", "    :header-rows: 1", "",
        "    * - a", "      - b", r"    * - \-log x\_c", "      - `c`",
    ]  # fmt: skip
    assert docstrings.as_rest(["maps   where it looked", "slot   what stands there"]) == [
        ".. list-table::", "", "    * - maps", "      - where it looked", "    * - slot", "      - what stands there",
    ]  # fmt: skip


def test_formulas_have_neither_row_gaps_as_text_nor_functions_that_touch_their_argument():
    assert "4pt" not in mathml.mathml(r"\begin{cases} a \\[4pt] b \end{cases}")
    space = '<mi>log</mi><mspace width="0.17em"/>'
    assert space in mathml.mathml(r"-\log p_y") and space not in mathml.mathml(r"\log(p)")


def test_infinity_stands_like_a_number():
    assert mathml.mathml(r"\alpha \to \infty").endswith("<mn>&#x0221E;</mn></mrow></math>")


def test_a_brace_below_a_formula_is_drawn_by_the_book():
    formula = mathml.mathml(r"\underbrace{\sum_k w_k}_{m}")
    assert '<munder><mrow class="underbrace">' in formula and "&#x23DF;" not in formula and "<mi>m</mi>" in formula


def test_steps_of_a_slider_are_few_and_hold_its_place():
    for chosen in moving.MOVING:
        if chosen.trained:
            continue
        control = chosen.make().controls[chosen.control]
        values = [value for _, value in moving.steps(control)]
        assert control.value in values and 5 <= len(values) <= moving.MOST_FRAMES, chosen
        assert len(set(values)) == len(values)


def test_without_its_packages_the_command_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(teaching, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --group book"):
        cli.book()


# --- the whole -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    folder: Path
    seconds: float  # at work; by the clock it takes longer where others work beside it
    said: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "ltlab.cli", "book", "--output", str(folder)]
    start, before = time.monotonic(), os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"\nthe book was built in {time.monotonic() - start:.0f} s, {seconds:.0f} s of them at work")
    assert done.returncode == 0, done.stdout + done.stderr
    return Built(folder, seconds, done.stderr)


@pytest.fixture(scope="module")
def site(built: Built) -> Path:
    return built.folder


@pytest.mark.slow
def test_it_is_built_in_less_than_five_minutes_and_without_a_warning(built: Built):
    assert built.seconds < 300
    assert "WARNING" not in built.said and "ERROR" not in built.said, built.said


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def course(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.ipynb"))


@pytest.mark.slow
def test_every_notebook_every_solution_and_every_room_has_a_page(site: Path):
    for folder in ("notebooks", "notebooks/solutions"):
        for name in course(ROOT / folder):
            assert (site / folder / f"{name}.html").exists()
    rooms = {path.stem.partition("_")[2] for path in (site / "api").glob("*.html")}
    assert rooms == set(ltlab._ROOMS) - {"cli"}
    losses = next((site / "api").glob("*_losses.html")).read_text(encoding="utf-8")
    assert 'id="ltlab.losses.BalancedSoftmaxLoss"' in losses


@pytest.mark.slow
def test_every_picture_has_a_text_and_nothing_is_fetched_from_elsewhere(site: Path):
    for page in site.rglob("*.html"):
        for tag, attributes in Tags(page).found:
            if tag == "img":
                assert attributes.get("alt"), (page.name, attributes)
            source = attributes.get("href" if tag == "link" else "src") or ""
            assert not source.startswith(("http:", "https:", "//")), (page.name, source)


@pytest.mark.slow
def test_every_frame_is_there_and_says_something_else(site: Path):
    found = []
    for name in course(ROOT / "notebooks"):
        page = site / "notebooks" / f"{name}.html"
        for _, attributes in Tags(page).found:
            if "data-frames" in attributes:
                frames, folder = json.loads(attributes["data-frames"]), page.parent / attributes["data-folder"]
                assert len({text for _, text in frames}) == len(frames) == len(list(folder.glob("*.webp")))
                found.append((name, folder.name))
    assert found == [(chosen.notebook, chosen.control) for chosen in moving.MOVING]


# --- in the browser --------------------------------------------------------------------------------------------------


class Reader:
    """Chromium on the book's files; whatever asks for anything else is refused and remembered."""

    def __init__(self, browser, site: Path) -> None:
        self.site, self.elsewhere, self.errors = site, [], []
        self.page = browser.new_page(viewport={"width": 1300, "height": 900})
        self.page.route("**/*", self._let_through)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))

    def _let_through(self, route) -> None:
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            self.elsewhere.append(route.request.url)
            route.abort()

    def open(self, page: str, query: str = ""):
        self.page.goto(f"{(self.site / page).as_uri()}{query}")
        return self.page

    def check(self) -> None:
        assert not self.elsewhere and not self.errors, (self.elsewhere, self.errors)


@pytest.fixture(scope="module")
def reader(site: Path, chromium: str) -> Iterator[Reader]:
    from browser import CHROMIUM_ARGS
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGS))
        yield Reader(browser, site)
        browser.close()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("name", dict.fromkeys(chosen.notebook for chosen in moving.MOVING))
def test_a_slider_moves_picture_and_text_by_the_keyboard(reader: Reader, name: str):
    page = reader.open(f"notebooks/{name}.html")
    for figure in page.locator(".moving").all():
        slider, picture, status = figure.get_by_role("slider"), figure.locator("img"), figure.locator("[role=status]")
        slider.focus()
        picture.evaluate("picture => picture.decode()")
        source, text, box = picture.get_attribute("src"), status.inner_text(), picture.bounding_box()
        pixels, key = picture.screenshot(), "ArrowLeft" if slider.input_value() != "0" else "ArrowRight"
        value = slider.get_attribute("aria-valuetext")
        slider.press(key)
        page.wait_for_function("([picture, source]) => picture.getAttribute('src') !== source",
                               arg=[picture.element_handle(), source])  # fmt: skip
        assert slider.get_attribute("aria-valuetext") == figure.locator(".value").inner_text() != value
        assert status.inner_text() != text and picture.screenshot() != pixels
        assert picture.bounding_box()["width"] == box["width"] and picture.bounding_box()["height"] == box["height"]
    reader.check()


@pytest.mark.slow
@pytest.mark.browser
def test_formulas_are_drawn_in_the_font_that_the_book_brings(reader: Reader):
    page = reader.open("notebooks/04_mixup.html")
    brace = page.locator("math[display=block] mo", has_text="{").first
    assert brace.bounding_box()["height"] > 40  # it spans the cases: a font without this leaves a small one
    assert page.evaluate("document.fonts.check('16px \"STIX Two Math\"')")
    assert page.locator("merror").count() == 0
    reader.check()


@pytest.mark.slow
@pytest.mark.browser
def test_the_search_finds_mixup(reader: Reader):
    page = reader.open("search.html", "?q=mixup")
    page.locator("#search-results li a").first.wait_for()
    titles = page.locator("#search-results li a").all_inner_texts()
    assert any("Mixup" in title for title in titles) and any("ltlab.mixup" in title for title in titles)
    reader.check()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [1300, 800, 650])  # the last is 1300 pixels at 200 % zoom
def test_no_page_is_wider_than_the_window(reader: Reader, width: int):
    reader.page.set_viewport_size({"width": width, "height": 900})
    for name in ("index", *(f"notebooks/{name}" for name in course(ROOT / "notebooks"))):
        page = reader.open(f"{name}.html")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width, name
    reader.check()
