"""The explorer itself: move a control, and the figure and one line of text change.

An `Explorer` draws on one off-screen figure. What no control moves is drawn once; each frame redraws the moving artists
over it and sends the picture as PNG bytes. The text says what the figure shows: for screen readers, for tests, and
where no figure can be displayed.
"""

import html
import io
import struct
import threading
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from traitlets import Unicode

from .quiz import answer_at_once

CSS_DPI = 96  # a CSS pixel is 1/96 inch, so a font of 12 points looks like one
PIXEL_RATIO = 2  # drawn pixels per CSS pixel: crisp on a high-density screen, and when scaled down on a narrow one


STYLE = """<style>
.ltlab-explorer { --jp-widgets-font-size: 15px; --jp-widgets-inline-height: 26px }
.ltlab-controls { gap: 2px 12px; align-items: end; padding: 0 8px 6px 0 }
.ltlab-controls .widget-inline-hbox { width: auto; height: auto; margin: 0; flex-wrap: wrap }
.ltlab-controls .widget-label { width: auto; height: auto; flex: 1 1 1px; margin: 0; text-align: left }
.ltlab-controls .widget-label { white-space: normal; line-height: 1.2 }
.ltlab-controls .widget-readout { width: auto; min-width: 0; margin: 0; padding: 0 2px; text-align: right }
.ltlab-controls .slider-container, .ltlab-controls select { order: 2; flex: 1 0 100%; margin: 0 }
.ltlab-controls .slider-container { height: 22px; padding: 0 8px }
.ltlab-stops .widget-readout { pointer-events: none; -webkit-user-modify: read-only }
</style>"""  # a control's label and value above it, all of the same width; a readout that takes no text looks like none
GAP, NARROWEST = 12, 100  # CSS pixels, between controls and of one


class Explorer(ipywidgets.VBox):
    """Controls above one figure and its summary; every change of a control redraws both.

        explorer = Explorer(
            controls={"gamma": FloatSlider(value=2, description="gamma", max=5)},
            figure=figure,              # from `blank_figure`
            update=update,              # update(gamma=...) moves artists of the figure, returns the summary
            moving=[line],              # the artists that it moves
            label="Focal loss against the probability of the true class",
        )

    More than three controls are in two rows. The figure is as wide as its container.

    Artists in `moving` are drawn last, in their order, over a saved picture of all others. An artist that `update`
    changes without being in `moving` is still drawn correctly, but slowly: it makes the figure stale, and a stale
    figure is redrawn in full.

    If `update` raises, the summary shows the error, the picture stays, and the exception propagates: to the notebook
    cell that set the control, or to Jupyter's log if a person moved it.

    Args:
        controls: name in `update` -> control with a `value` and a visible `description`.
        figure: an off-screen figure with fixed axes; see `blank_figure`.
        update: takes the controls' values by name, moves artists, returns one line of text.
        moving: the artists that `update` moves, or what has `artists`.
        label: what the figure shows, for screen readers.

    Raises:
        ValueError: a control has no description.
    """

    def __init__(
        self, controls: Mapping[str, Any], figure: Figure, update: Callable[..., str], *,
        moving: Iterable[Any] = (), label: str,
    ) -> None:  # fmt: skip
        for name, control in controls.items():
            if not control.description:
                raise ValueError(f"control {name!r} has no description: give it the field's term as description=")
        self.controls, self.figure = dict(controls), figure
        self._update, self._background = update, None
        self._moving = [artist for part in moving for artist in getattr(part, "artists", [part])]
        self._one_at_a_time = threading.RLock()  # a moved control and a running cell use different threads
        for artist in self._moving:
            artist.set_animated(True)  # an ordinary draw leaves it out, and changing it does not make the figure stale
        width, height = (round(CSS_DPI * inches) for inches in figure.get_size_inches())
        self._picture = _Picture(
            format="png", width=str(width), height=str(height), tooltip=label,
            layout={"width": "100%", "max_width": f"{1.6 * width:.0f}px", "height": "auto", "margin": "0"},
        )  # fmt: skip
        self._text = ipywidgets.HTML()
        style = ipywidgets.HTML(STYLE, layout={"display": "none"})
        super().__init__([style, _in_rows([*self.controls.values()]), self._picture, self._text])
        self.add_class("ltlab-explorer")
        self._redraw()
        for control in self.controls.values():
            control.observe(self._redraw, names="value")

    @property
    def values(self) -> dict[str, Any]:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def picture(self) -> PIL.Image.Image:
        """The figure as currently drawn, RGB."""
        canvas: Any = self.figure.canvas
        return PIL.Image.frombuffer("RGBA", canvas.get_width_height(physical=True), canvas.buffer_rgba()).convert("RGB")

    def _redraw(self, change: object = None) -> None:
        with self._one_at_a_time:
            try:
                summary = self._update(**self.values)
                self._draw()
            except Exception as error:
                self._say(f"{type(error).__name__}: {error}".splitlines()[0], "color: #b00020")
                raise
            self._picture.value = _png(self.picture())
            self._say(summary)

    def _draw(self) -> None:
        canvas: Any = self.figure.canvas
        if self._background is None or self.figure.stale:  # an artist outside `moving` has changed
            canvas.draw()
            self._background = canvas.copy_from_bbox(self.figure.bbox)
        canvas.restore_region(self._background)
        for artist in self._moving:
            self.figure.draw_artist(artist)

    def _say(self, text: str, style: str = "") -> None:
        self.summary = text
        style = f"margin: 4px 0; font-size: 15px; line-height: 1.4; {style}"
        self._text.value = f'<p role="status" style="{style}">{html.escape(text)}</p>'

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live widget; where there is no kernel (a saved notebook on a code host), picture and summary."""
        live = super()._repr_mimebundle_(**kwargs) or {}
        answer_at_once(self.controls.values())
        summary = f"{self.summary}. To move the controls: Run > Run All Cells"
        size = {"width": int(self._picture.width), "height": int(self._picture.height), "alt": summary}
        picture = io.BytesIO()
        self.picture().quantize(256).save(picture, "PNG")  # 256 colours are half the bytes: a notebook keeps them
        saved = {"image/png": b64encode(picture.getvalue()).decode(), "text/plain": summary}
        return {**live, **saved}, {"image/png": size}


def _in_rows(controls: Sequence[Any]) -> ipywidgets.Box:
    """The controls in one row, more than three in two, and in more where these would be too narrow.

    Hidden controls take no place, and several switches share one.
    """
    shown = [control for control in controls if control.layout.display != "none"]
    switches = [control for control in shown if isinstance(control, ipywidgets.Checkbox)]
    if len(switches) > 1:
        shown = [control for control in shown if control not in switches] + [ipywidgets.VBox(switches)]
    columns = len(shown)
    columns = columns if columns <= 3 else -(-columns // 2)
    least = f"max({NARROWEST}px, (100% - {(columns - 1) * GAP + 1}px) / {columns})"
    template = f"repeat(auto-fill, minmax({least}, 1fr))"
    box = ipywidgets.Box(shown, layout={"display": "grid", "grid_template_columns": template})
    return box.add_class("ltlab-controls")


class _Picture(ipywidgets.Image):
    """An image whose tooltip, its name for screen readers, reaches the page: without a description it does not."""

    description = Unicode("").tag(sync=True)


def _png(picture: PIL.Image.Image) -> bytes:
    """RGB picture as PNG, without the row filters, which cost Pillow half of a frame's time and save nothing here."""
    width, height = picture.size
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter, 0 for none
    rows[:, 1:] = np.asarray(picture).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits per channel, RGB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, level=1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def blank_figure(width: float, height: float) -> Figure:
    """An off-screen figure of width x height CSS pixels, drawn at twice that density, for an `Explorer`."""
    figure = Figure((width / CSS_DPI, height / CSS_DPI), dpi=CSS_DPI * PIXEL_RATIO)
    FigureCanvasAgg(figure)
    return figure
