"""Custom recipes, in a file or a module."""

import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ..names import look_up
from .families import get
from .recipe import Recipe


def load(name: str) -> Recipe:
    """The recipe of that name, or the one that FILE.py:NAME or MODULE:NAME names.

    A file is imported as its own module, with its folder first among the places that modules come from, as Python
    does for a script; a module is looked for in the working directory first. It is meant for programs that begin anew
    each time, such as the command line: what has been imported once is not read again.

    Raises:
        ValueError: an unknown name, a file that raises an exception, or one that has no Recipe of that name.
        FileNotFoundError: there is no such file.
    """
    if name.endswith(".py"):
        raise ValueError(f"{name} is a file: write {name}:NAME for the recipe of that name in it")
    place, colon, wanted = name.rpartition(":")
    if not colon:
        return get(name)
    held = vars(_module(place))
    if wanted in held and not isinstance(held[wanted], Recipe):
        raise ValueError(f"{name} is of type {type(held[wanted]).__name__}, not Recipe: write Recipe(Stage(...), ...)")
    recipes = {key: value for key, value in held.items() if isinstance(value, Recipe)}
    return look_up(f"recipe in {place}", wanted, recipes)


def _module(place: str) -> ModuleType:
    """The module of a file, or of that name."""
    file = Path(place).resolve() if place.endswith(".py") else None
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    sys.path.insert(0, str(file.parent if file else Path.cwd()))
    try:
        module = import_module(file.stem if file else place)
    except Exception as error:  # custom code raises errors of any type
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
        where = f" in line {lines[-1].lineno}" if lines else ""
        raise ValueError(f"{place} cannot be imported, {type(error).__name__}{where}: {error}") from error
    found = getattr(module, "__file__", None)
    if file is not None and (found is None or Path(found).resolve() != file):
        raise ValueError(f"{place} has the name of another module, {found or file.stem}: give the file another one")
    return module
