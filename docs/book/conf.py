"""Sphinx's settings for the book; `ltlab book` writes the pages and calls Sphinx (see build.py).

Nothing here reaches for the network, when the book is built or when it is read: formulas become MathML, which browsers
draw themselves, and the scripts that would make widgets live are off, because there is no kernel to answer them.
"""

import sys
from importlib.resources import files
from pathlib import Path

from ltlab import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "ltlab"
author = "The ltlab authors"
project_copyright = author
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "docstrings", "mathml"]
exclude_patterns = ["README.md"]  # index.md includes it
suppress_warnings = ["toc.not_included"]

nb_execution_mode = "off"  # the notebooks are committed executed
nb_ipywidgets_js = {}
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

default_role = "code"  # docstrings write `name` as Markdown does
autodoc_typehints = "none"  # the signature names a type where the text does not
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "ltlab"
html_static_path = ["_static", str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf")]
html_css_files = ["book.css"]
html_js_files = ["moving.js"]
html_copy_source = False
html_show_search_summary = False  # it fetches pages, which a browser refuses to a book that is opened as a file
