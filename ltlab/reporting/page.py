"""The report as one HTML page, which needs no network and runs no script; all names are text in it."""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape
from string import Template
from typing import Any

from torch import Tensor

TEMPLATE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #ffffff; --soft: #5f6772; --line: #d9dde3;
  --wash: #f4f6f8; --good: #0173b2; --mark: #e6f1f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #15181c; --soft: #9aa3ae; --line: #343a42;
  --wash: #1e2329; --good: #56b4e9; --mark: #17303f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.answer { background: var(--mark); border-left: 4px solid var(--good); border-radius: 4px; padding: .8rem 1.1rem; }
.answer p { margin: .35rem 0; font-size: 1.08rem; max-width: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
.scroll + p { margin: .5rem 0 1.6rem; max-width: none; }
th, td { text-align: right; padding: .35rem .55rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 12rem; }
.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
tr.chosen td { background: var(--mark); font-weight: 600; }
.bar { position: relative; display: block; width: 10rem; height: 1.1rem; }
.bar i, .bar b, .bar s { position: absolute; display: block; }
.bar s { top: 0; bottom: 0; width: 1px; background: var(--soft); }
.bar i { top: .5rem; height: 2px; background: var(--good); }
.bar b { top: .3rem; width: .5rem; height: .5rem; margin-left: -.25rem; border-radius: 50%; background: var(--good); }
figure { margin: 1rem 0; }
figure svg { width: 100%; height: auto; max-width: 52rem; display: block; }
figure svg text { fill: var(--ink) !important; }
figure svg [style*="stroke: #000000"] { stroke: var(--ink) !important; }
figure svg [style*="fill: #ffffff"], figure svg [style*="fill: none; stroke: none"] { fill: none !important; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: .4rem 0; list-style: none; }
.pictures img { width: 5rem; height: 5rem; object-fit: cover; border-radius: 4px; display: block; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 4px; padding: .9rem 1rem; overflow-x: auto;
  font: .82rem/1.5 ui-monospace, monospace; }
@media (max-width: 40rem) { main { padding: 1rem .9rem 3rem; } h1 { font-size: 1.35rem; } .pictures img { width: 4rem;
  height: 4rem; } figure { overflow-x: auto; } figure svg { min-width: 34rem; } }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --wash: #fff;
  --mark: #eef5fa; --good: #0173b2; }
  main { max-width: none; padding: 0; } body { font-size: 11pt; print-color-adjust: exact; }
  figure, table, .answer, .pictures { break-inside: avoid; } h2, h3 { break-after: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; } .scroll { overflow: visible; } }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page; the parts are HTML."""
    return TEMPLATE.substitute(title=escape(title), style=STYLE, body="\n".join(parts))


def _text(text: str) -> str:
    """Escaped, with a unit on the line of its number."""
    return escape(text.replace(" %", "\u00a0%"))


def heading(text: str, level: int = 2) -> str:
    """A heading; 1 is the page's title."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; kind "soft" is small and grey."""
    return f"<p{f' class={kind}' if kind else ''}>{_text(text)}</p>"


def answer(sentences: Iterable[str]) -> str:
    """The box on top."""
    return f'<div class="answer">{"".join(map(paragraph, sentences))}</div>'


def items(texts: Iterable[str]) -> str:
    """A list with bullets."""
    return f"<ul>{''.join(f'<li>{_text(text)}</li>' for text in texts)}</ul>"


def code(text: str) -> str:
    """Code as it is."""
    return f"<pre><code>{escape(text)}</code></pre>"


def figure(svg: str, caption: str) -> str:
    """svg: an element made by matplotlib, which escapes its texts."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", chosen: Sequence[bool] = (),
    text: Sequence[int] = (),
) -> str:  # fmt: skip
    """Cells are texts, or HTML made by `interval`. text: the columns of long texts."""
    chosen = chosen or [False] * len(rows)
    lines = []
    for row, marked in zip(rows, chosen, strict=True):
        cells = "".join(
            f"<td{' class=text' if i in text else ''}>{cell if isinstance(cell, Drawn) else escape(str(cell))}</td>"
            for i, cell in enumerate(row)
        )
        lines.append(f"<tr{' class=chosen' if marked else ''}>{cells}</tr>")
    titles = "".join(
        f"<th scope=col{' class=text' if i in text else ''}>{escape(title)}</th>" for i, title in enumerate(head)
    )
    below = paragraph(caption, "soft") if caption else ""
    return f'<div class="scroll"><table><tr>{titles}</tr>{"".join(lines)}</table></div>{below}'


class Drawn(str):
    """HTML that a function of this module has made, from numbers alone."""


def interval(value: float, low: float, high: float, least: float, most: float) -> Drawn:
    """A value with its interval as a dot on a line, on an axis from least to most with a mark at 0."""

    def place(x: float) -> float:
        return round(100 * (min(max(x, least), most) - least) / (most - least), 2)

    return Drawn(
        f'<span class="bar"><s style="left:{place(0)}%"></s>'
        f'<i style="left:{place(low)}%;width:{round(place(high) - place(low), 2)}%"></i>'
        f'<b style="left:{place(value)}%"></b></span>'
    )


def pictures(images: Tensor, titles: Sequence[str]) -> str:
    """Images (n, 3, H, W) uint8 in a row; a title shows under the pointer."""
    from PIL import Image

    tags = []
    for image, title in zip(images, titles, strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy(force=True)).save(file, "JPEG", quality=85)
        data = base64.b64encode(file.getvalue()).decode()
        text = escape(title)
        tags.append(f'<li><img src="data:image/jpeg;base64,{data}" alt="{text}" title="{text}"></li>')
    return f'<ul class="pictures">{"".join(tags)}</ul>'


def percent(fraction: float) -> str:
    """A fraction in percent, without the sign; a dash for NaN."""
    return "–" if math.isnan(fraction) else f"{round(100 * fraction, 1) + 0:.1f}"  # + 0: never -0.0
