"""Formulas as MathML, which every current browser draws by itself: no script, no network.

Braces and roots grow in fonts made for formulas alone; the book brings one along (html_static_path, book.css).
"""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

ROW_GAP = re.compile(r"\\\\\[[^]]*\]")  # as in \\[4pt], which the converter would print
FUNCTION = re.compile(r"(<mi>(?:log|cos|sin)</mi>)(?=<m(?:i|n|sub|frac)\b)")  # with an argument that has no bracket

AS_OPERATOR, AS_NUMBER = "<mo>&#x0221E;</mo>", "<mn>&#x0221E;</mn>"  # the converter's infinity has an operator's space

# Chromium draws the brace below a formula without its left end, so the book draws it by a border (book.css)
UNDERBRACE = re.compile(r"<munder><mrow>((?:(?!<munder>).)*)</mrow><mo>&#x23DF;</mo></munder>")


def mathml(latex: str, display: str = "inline") -> str:
    """A formula as a `<math>` element, with LaTeX's thin space between a function and its argument."""
    formula = FUNCTION.sub(r'\1<mspace width="0.17em"/>', convert(ROW_GAP.sub(r"\\\\", latex), display=display))
    return UNDERBRACE.sub(r'<mrow class="underbrace">\1</mrow>', formula).replace(AS_OPERATOR, AS_NUMBER)


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
