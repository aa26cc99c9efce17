"""A recipe as Python code to paste."""

import inspect
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from itertools import accumulate
from types import FunctionType

from .. import recipes
from ..recipes import Protocol, Recipe, Stage, describe

WIDTH = 110  # a stage that needs more gets a line per setting
PLAIN = Stage()
PROTOCOLS = {name: value for name, value in vars(recipes).items() if isinstance(value, Protocol)}

Imports = dict[str, str]  # name: the module that it comes from


def to_code(recipe: Recipe) -> str:
    """Python code, imports included, that makes the recipe and calls it `recipe`.

    Executed, it gives a recipe with the same name, stages, classifier and protocol, so that what both resolve to has
    the same `identity()`. What is as in `Stage()` is left out.

    Raises:
        ValueError: a slot holds what code cannot name or make again: a function without a name of its own in a
            module, an object made with class counts or tensors.
    """
    imports: Imports = {}
    lines = [f"    {_stage(stage, imports)},\n" for stage in recipe.stages]
    rest = {"name": recipe.name}
    if recipe.classifier != "linear":
        rest["classifier"] = recipe.classifier
    if recipe.protocol is not None:
        rest["protocol"] = recipe.protocol
    lines += [f"    {key}={_expression(value, imports)},\n" for key, value in rest.items()]
    body = f"recipe = {_name(Recipe, imports)}(\n{''.join(lines)})\n"
    return f"{_import_lines(imports)}\n\n{body}"


def settings(stage: Stage) -> dict[str, object]:
    """What a stage sets otherwise than `Stage()`: its slots, its schedule and the rest, but not its length."""
    names = [field.name for field in fields(Stage) if field.name not in ("epochs", "share")]
    return {name: getattr(stage, name) for name in names if _kind(getattr(stage, name)) != _kind(getattr(PLAIN, name))}


def _kind(value: object) -> tuple[type, str]:
    """What tells one thing in a slot from another: torch's CrossEntropyLoss() from ltlab's, too."""
    return type(value), describe(value)


def _stage(stage: Stage, imports: Imports) -> str:
    length = {"share": stage.share} if stage.epochs is None else {"epochs": stage.epochs}
    if length == {"share": 1.0}:
        length = {}
    line = _call(Stage, (), length | settings(stage), imports)
    return line if len(line) < WIDTH else _call(Stage, (), length | settings(stage), imports, indent=" " * 4)


def _expression(value: object, imports: Imports) -> str:
    """Code for a value: a plain one, a class, a function, a partial, a dataclass or a loss that was made of knobs."""
    if type(value) is str:
        return json.dumps(value, ensure_ascii=False)  # a repr in double quotes
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return repr(value)
    if type(value) is tuple:
        return f"({', '.join(_expression(v, imports) for v in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_expression(k, imports)}: {_expression(v, imports)}' for k, v in value.items())}}}"
    if isinstance(value, partial):
        return _call(partial, (value.func, *value.args), value.keywords, imports)
    if isinstance(value, type | FunctionType):
        return _name(value, imports)
    if isinstance(value, Protocol) and value in PROTOCOLS.values():
        name = next(name for name, protocol in PROTOCOLS.items() if protocol == value)
        imports[name] = _public_module(Protocol)
        return name
    if is_dataclass(value):
        return _call(type(value), (), _changed_fields(value), imports)
    if hasattr(value, "knobs") and hasattr(value, "reduction"):
        return _loss(value, imports)
    raise ValueError(
        f"{describe(value)} cannot be written as code: put a class, a function of a module, a partial of one, or an "
        "object made of plain values there"
    )


def _changed_fields(value: object) -> dict[str, object]:
    """The fields of a dataclass that differ from their defaults; tensors are kept, for `_expression` to refuse."""
    values = {field.name: (getattr(value, field.name), field.default) for field in fields(value) if field.init}
    return {
        name: given for name, (given, default) in values.items()
        if default is MISSING or type(given) is not type(default) or given != default
    }  # fmt: skip


def _loss(loss: object, imports: Imports) -> str:
    """A loss as the knobs that it prints; one that was also made with class counts is refused."""
    knobs = {name: getattr(loss, name) for name in loss.knobs}
    if loss.reduction != loss.default_reduction:
        knobs["reduction"] = loss.reduction
    signature = inspect.signature(type(loss))
    try:
        signature.bind(**knobs)
    except TypeError:
        raise ValueError(
            f"{describe(loss)} was made with class counts, which code cannot name: put the class, or a partial of it, "
            "into the slot, and every data set's own counts are taken"
        ) from None
    changed = {name: value for name, value in knobs.items() if value != signature.parameters[name].default}
    return _call(type(loss), (), changed, imports)


def _call(made_by: object, args: tuple, keywords: Mapping[str, object], imports: Imports, indent: str = "") -> str:
    """`made_by(args, keywords)`; with an indent one argument per line, each indented once more."""
    name = _name(made_by, imports)
    arguments = [_expression(arg, imports) for arg in args]
    arguments += [f"{key}={_expression(value, imports)}" for key, value in keywords.items()]
    if indent:
        lines = [f"{indent}    {argument},\n" for argument in arguments]
        return f"{name}(\n{''.join(lines)}{indent})"
    return f"{name}({', '.join(arguments)})"


def _name(value: type | FunctionType, imports: Imports) -> str:
    """A class's or function's name, which is imported."""
    name, module = value.__name__, _public_module(value)
    if imports.setdefault(name, module) != module:
        raise ValueError(f"two things are called {name}, in {imports[name]} and in {module}: rename one")
    return name


def _public_module(value: type | FunctionType) -> str:
    """The outermost package that holds a class or function under its name: ltlab.losses, not ltlab.losses.margin."""
    for module in accumulate(value.__module__.split("."), "{}.{}".format):
        if getattr(sys.modules.get(module), value.__name__, None) is value:
            return module
    raise ValueError(
        f"{value.__qualname__} cannot be imported from {value.__module__}: define it by name at a module's top level"
    )


def _import_lines(imports: Imports) -> str:
    """The import statements: the standard library first, modules and names in order."""
    by_module: dict[str, list[str]] = {}
    for name, module in sorted(imports.items()):
        by_module.setdefault(module, []).append(name)
    blocks: dict[bool, list[str]] = {True: [], False: []}
    for module, names in sorted(by_module.items()):
        blocks[module.partition(".")[0] in sys.stdlib_module_names].append(f"from {module} import {', '.join(names)}")
    return "\n\n".join("\n".join(block) for block in blocks.values() if block)
