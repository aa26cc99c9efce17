"""Where ltlab finds its tables and keeps its downloads."""

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def expanded(path: str | Path) -> Path:
    """The path, its ~ or ~user replaced by a home; ValueError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"path={str(path)!r}: {error}; write the path without ~") from error


def checkout() -> Path | None:
    """The root of the source checkout that this package runs from, or None when it is installed."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "data" / "class_counts").is_dir() else None


def tables_folder(name: str) -> Path:
    """A folder of tables (class_counts, published, results), of a checkout or else inside the installed package."""
    root = checkout()
    folder = root / "data" / name if root else PACKAGE / "_files" / name
    if not folder.is_dir():
        raise FileNotFoundError(f"no tables at {folder}: install ltlab again")
    return folder


def download_folder(root: str | Path | None = None) -> Path:
    """The folder of downloaded sets; the first of these that is given.

    `root`; the environment variable LTLAB_DATA; data/downloads of a checkout; the user's cache, that is
    $XDG_CACHE_HOME/ltlab or ~/.cache/ltlab.
    """
    if root is not None:
        return expanded(root)
    if named := os.environ.get("LTLAB_DATA"):
        return expanded(named)
    if source := checkout():
        return source / "data" / "downloads"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltlab"
