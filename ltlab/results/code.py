"""A recipe as Python code to paste."""

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from itertools import accumulate
from types import FunctionType
from typing import Any

from .. import recipes
from ..recipes import Recipe, Settings, Stage, describe
from ..recipes.contents import contents

WIDTH = 110  # a stage that needs more gets a line per setting
KNOWN = {name: value for name, value in vars(recipes).items() if isinstance(value, Settings)}

Names = dict[str, tuple[str, object]]  # what the code imports: name: module, object


def to_code(recipe: Recipe) -> str:
    """Python code, imports included, that makes the recipe and calls it `recipe`.

    Executed, it gives a recipe with the same name, stages, classifier and settings, so that what both resolve to has
    the same `identity()`. What is as in `Stage()` is left out.

    Raises:
        ValueError: a setting that code cannot make again, such as a lambda, or a loss made with class counts.
    """
    names: Names = {"Recipe": (recipes.__name__, Recipe), "Stage": (recipes.__name__, Stage)}
    rest: dict[str, Any] = {"name": recipe.name}
    rest |= {"classifier": recipe.classifier} if recipe.classifier != "linear" else {}
    rest |= {"settings": recipe.settings} if recipe.settings is not None else {}
    parts = []
    for stage in recipe.stages:
        arguments = _arguments(changed(stage), names)
        line = f"Stage({', '.join(arguments)})"
        lines = "".join(f"        {argument},\n" for argument in arguments)
        parts.append(line if len(line) < WIDTH else f"Stage(\n{lines}    )")
    lines = "".join(f"    {part},\n" for part in [*parts, *_arguments(rest, names)])
    return f"{_imports(names)}\nrecipe = Recipe(\n{lines})\n"


def _imports(names: Names) -> str:
    """The import statements: the standard library first, modules and names in order."""
    modules = {module: module.partition(".")[0] in sys.stdlib_module_names for module, _ in names.values()}
    blocks = []
    for standard in (True, False):
        block = [module for module in sorted(modules) if modules[module] == standard]
        held = {module: sorted(name for name, (of, _) in names.items() if of == module) for module in block}
        blocks.append("".join(f"from {module} import {', '.join(held[module])}\n" for module in block))
    return "\n".join(filter(None, blocks))


def changed(made: Any) -> dict[str, Any]:
    """The settings of a dataclass or a loss that differ from their defaults."""
    if is_dataclass(made):
        made_by = {f.name: (f.default, f.default_factory) for f in fields(made) if f.init}
        default = {name: value if make is MISSING else make() for name, (value, make) in made_by.items()}
    else:
        parameters = inspect.signature(type(made)).parameters
        default = {name: parameters[name].default for name in (*made.knobs, "reduction")}
    given = {name: getattr(made, name) for name in default}
    return {name: value for name, value in given.items() if _kind(value) != _kind(default[name])}


def _kind(value: object) -> tuple[type, str]:
    """What tells one value from another: torch's CrossEntropyLoss() from ltlab's, 1 from True."""
    return type(value), describe(value)


def _arguments(given: Mapping[str, object], names: Names) -> list[str]:
    """`name=value` for each, once the code has been seen to make the value again."""
    arguments = []
    for key, value in given.items():
        code = _expression(value, names)
        try:
            again = eval(code, {name: known for name, (_, known) in names.items()})
        except Exception:  # a printed form or a class may raise any error
            again = None
        if again is None or contents(again) != contents(value):
            raise ValueError(
                f"{key}={describe(value)} cannot be written as code: put a class, a function of a module, a partial "
                "of one, or an object made of plain values there, and no two things of one name"
            )
        arguments.append(f"{key}={code}")
    return arguments


def _expression(value: Any, names: Names) -> str:
    """Code for a value, whose names are added to those that are imported; else its printed form."""
    if type(value) is str:
        return json.dumps(value, ensure_ascii=False)  # a repr in double quotes
    if type(value) is tuple:
        return f"({', '.join(_expression(v, names) for v in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_expression(k, names)}: {_expression(v, names)}' for k, v in value.items())}}}"
    if isinstance(value, type | FunctionType):
        return _name(value, names)
    if isinstance(value, Settings) and value in KNOWN.values():
        name = next(name for name, known in KNOWN.items() if known == value)
        names[name] = recipes.__name__, value
        return name
    if isinstance(value, partial):
        made_by, positional, keywords = partial, (value.func, *value.args), value.keywords
    elif is_dataclass(value) or hasattr(value, "default_reduction"):
        made_by, positional, keywords = type(value), (), changed(value)
    else:
        return repr(value)
    arguments = [_expression(argument, names) for argument in positional]
    arguments += [f"{key}={_expression(argument, names)}" for key, argument in keywords.items()]
    return f"{_name(made_by, names)}({', '.join(arguments)})"


def _name(value: type | FunctionType, names: Names) -> str:
    """A class's or function's name, imported from the outermost package that has it: ltlab.losses, not .margin."""
    for module in accumulate(value.__module__.split("."), "{}.{}".format):
        if getattr(sys.modules.get(module), value.__name__, None) is value:
            names.setdefault(value.__name__, (module, value))
            break
    return value.__name__
