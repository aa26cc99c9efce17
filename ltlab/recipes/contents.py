"""What a slot holds, as text: short for people, and exact for telling one run from another."""

import copyreg
import dis
import hashlib
import importlib.metadata
import linecache
import os
import secrets
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from functools import cache, cached_property, lru_cache, partial
from inspect import unwrap
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..losses import Loss


def describe(slot: object) -> str:
    """What a slot holds, in one short text: `PowerSampler(q=0.5)`; an empty slot is a dash."""
    if slot is None:
        return "—"
    if isinstance(slot, partial):
        given = [("", argument) for argument in slot.args] + [
            (f"{key}=", value) for key, value in slot.keywords.items()
        ]
        arguments = [f"{key}{describe(value) if callable(value) else repr(value)}" for key, value in given]
        return f"{slot.func.__name__}({', '.join(arguments)})"
    if callable(slot) and hasattr(slot, "__name__"):
        return slot.__name__
    if isinstance(slot, str):
        return slot
    if isinstance(slot, nn.Module) and not isinstance(slot, Loss):  # its own printed form may hide what it holds
        held = {name: describe(value) for name, value in vars(slot).items() if name[0] != "_" and name != "training"}
        tensors = {name: _digest(value) for name, value in (*slot.named_buffers(), *slot.named_parameters())}
        return f"{type(slot).__name__}({', '.join(f'{name}={value}' for name, value in (held | tensors).items())})"
    return type(slot).__name__ if type(slot).__repr__ is object.__repr__ else repr(slot)  # never an address in memory


def contents(slot: object) -> str:
    """What a slot holds, equal exactly where it trains alike: `describe`, and a digest of what that does not show.

    Not shown are the values of tensors and arrays, what custom objects hold, and what custom code does. A function or
    class from outside Python, torch, ltlab and the installed packages counts by the text of its file or cell and by
    the values that its names, attributes and defaults have now, through other custom modules too; so a changed comment
    counts as a change. An installed package counts by its version.

    What cannot be known gives a text that is never the same again, so that such a run is always trained: code without
    a text, or whose file has changed since it was imported, what reads files or looks names up in text, and values
    such as locks.
    """
    hidden = list(_Hidden().of(slot))
    untold = " holds what cannot be known," if any("not known" in text for text in hidden) else ""
    digest = f"{untold} {hashlib.sha256(repr(hidden).encode()).hexdigest()[:8]}" if hidden else ""
    return describe(slot) + digest


PLAIN = {str, int, float, complex, bool, bytes, type(None), type(...)}
STDLIB = os.path.dirname(os.__file__)  # noqa: PTH120 (compared with the text of other paths)
PACKAGES = {"site-packages", "dist-packages"}
OF_MODULES = list(vars(nn.Module()))  # the attributes that torch gives to every module
NAMED = (FunctionType, type, ModuleType)
LIBRARIES = {"ltlab", "torch", "torchvision", "numpy", *sys.stdlib_module_names}
LOOKUPS = {"getattr", "vars", "__dict__"}  # these may take anything from a module
UNKNOWABLE = {
    "eval", "exec", "globals", "import_module", "__import__",
    "open", "load", "read_bytes", "read_csv", "read_text", "fromfile", "genfromtxt", "loadtxt",
}  # fmt: skip


class _Hidden:
    """A walk through all that a value is made of, which yields what `describe` leaves out.

    An object that is met again is the number of its first time: walks end, and tell [a, b, a] from [a, b, b].
    """

    def __init__(self) -> None:
        self.met: dict[int, tuple[int, object]] = {}  # by id; tuples are not among them, as equal ones may be one
        self.read: set[tuple[int, frozenset[str]]] = set()  # modules, and the names that were looked up in them

    def of(self, value: object, shown: bool = True) -> Iterator[str]:
        """shown: whether the printed form holds plain values."""
        if type(value) in PLAIN:
            yield from [] if shown else [repr(value)]
        elif isinstance(value, Tensor):
            yield _digest(value)
        elif type(value) is np.ndarray and not value.dtype.hasobject:
            yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        elif type(value) is tuple:
            for part in value:
                yield from self.of(part, shown)
        elif id(value) in self.met:
            yield f"again {self.met[id(value)][0]}"
        else:
            self.met[id(value)] = len(self.met), value
            yield from self._named(value, shown) if isinstance(value, NAMED) else self._object(value, shown)

    def _object(self, value: Any, shown: bool) -> Iterator[str]:
        kind: type = type(value)
        yield from self._named(kind, shown)
        if kind in (set, frozenset):
            yield repr(sorted(repr(list(_Hidden().of(part, shown=False))) for part in value))
            return
        parts: Any
        if isinstance(value, MethodType):
            parts = value.__func__, value.__self__
        elif callable(value) and hasattr(value, "__wrapped__"):  # such as a cached function
            parts = (value.__wrapped__,)
        elif isinstance(value, partial):
            parts = value.func, *value.args, *value.keywords.values()
        elif isinstance(value, nn.Module):
            held = [item for item in vars(value).items() if item[0] not in OF_MODULES]
            hooks = [hook for name in OF_MODULES if name.endswith("_hooks") for hook in getattr(value, name).values()]
            tensors = *value.parameters(recurse=False), *value.buffers(recurse=False)
            parts = *tensors, *held, *hooks, *value.children()
        elif kind in (dict, list):
            parts = value.items() if kind is dict else value
        else:
            parts = _reduced(value)
        if kind not in (dict, list, partial):
            shown = shown and _library(kind) == "ltlab" and kind.__repr__ is not object.__repr__
        for part in parts:
            yield from self.of(part, shown)

    def _named(self, owner: Any, shown: bool) -> Iterator[str]:
        """A function, class or module: of a library the name alone, of yours what it does."""
        name = f"{getattr(owner, '__module__', None)}.{getattr(owner, '__qualname__', owner.__name__)}"
        if (library := _library(owner)) in LIBRARIES:
            yield from [] if shown else [name]
        elif library:
            yield f"{name} {_version(library)}"
        elif isinstance(owner, FunctionType):
            yield from self._function(owner)
        elif isinstance(owner, type):
            for base in (*owner.__bases__, type(owner)):
                yield from self.of(base)
            for key, member in vars(owner).items():
                member = _unwrapped(member)
                written = callable(member) and not _generated(member, owner)
                if key != "_abc_impl" and (written or not key.startswith("__")):
                    yield key
                    yield from self.of(member, shown=False)
        else:
            yield from self._looked_up(vars(owner).keys(), owner)

    def _function(self, function: FunctionType) -> Iterator[str]:
        code = function.__code__
        wrapper = _installed(code.co_filename)  # a library's, around a function of yours
        yield f"{function.__qualname__} {'' if wrapper else _text(code)}"
        if not wrapper:
            codes = _with_inner(code)
            names = {name for each in codes for name in each.co_names}
            yield from [_untold()] if names & UNKNOWABLE else []
            if names & {"environ", "getenv"}:
                texts = {text for each in codes for text in each.co_consts if isinstance(text, str)}
                yield repr([(text, os.environ.get(text)) for text in sorted(texts)])
            yield from self._values(_globals_in(codes), names, function.__globals__)
            for module in _imports(codes, function.__globals__):
                yield from [_untold()] if module is None else self._looked_up(names, module)
        closure = [_in_cell(cell) for cell in function.__closure__ or ()]
        for part in (function.__defaults__, function.__kwdefaults__, closure, vars(function)):
            yield from self.of(part, shown=False)

    def _values(
        self, picked: AbstractSet[str], names: AbstractSet[str], namespace: dict[str, Any]
    ) -> Iterator[str]:  # fmt: skip
        """The values picked of a namespace; of a module among them, what these names are in it."""
        for name in sorted(name for name in picked & namespace.keys() if not name.startswith("__")):
            yield name
            if isinstance(namespace[name], ModuleType):
                yield from self._looked_up(names, namespace[name])
            else:
                yield from self.of(namespace[name], shown=False)

    def _looked_up(self, names: AbstractSet[str], module: ModuleType) -> Iterator[str]:
        """What these names are in a module of yours; of a library's, its name."""
        looked_up = id(module), frozenset(names)
        if _library(module):
            yield from self._named(module, shown=False)
        elif looked_up not in self.read:
            self.read.add(looked_up)
            yield from self._values(names | vars(module).keys() if names & LOOKUPS else names, names, vars(module))


def _reduced(value: object) -> list[Any]:
    """What copying or pickling an object would take from it; of what cannot be copied, nothing is known."""
    try:
        reduced = copyreg.dispatch_table.get(type(value))
        parts: Any = reduced(value) if reduced else value.__reduce_ex__(4)
    except Exception:  # its class may raise any error
        return [_untold()]
    return [list(part) if isinstance(part, Iterator) else part for part in ([parts] if type(parts) is str else parts)]


def _unwrapped(member: Any) -> object:
    """The functions inside a property or method of a class."""
    if isinstance(member, property):
        return member.fget, member.fset
    return member.func if isinstance(member, cached_property) else getattr(member, "__func__", member)


def _generated(member: object, owner: type) -> bool:
    """Whether a data class or named tuple was given this method."""
    function = unwrap(member) if isinstance(member, FunctionType) else None
    return (
        isinstance(function, FunctionType)
        and function.__code__.co_filename == "<string>"
        and (is_dataclass(owner) or issubclass(owner, tuple))
    )


def _installed(file: str) -> bool:
    return file.startswith(STDLIB) or bool(PACKAGES & set(Path(file).parts))


@cache
def _library_of(module: str) -> str:
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    if top.startswith("_cython"):  # the functions of compiled packages, such as pandas
        return "builtins"
    if top in sys.stdlib_module_names:  # unless a file of yours has taken the name
        return top if not file or _installed(file) else ""
    return top if top in LIBRARIES or (top != "__main__" and _installed(file)) else ""


def _library(owner: object) -> str:
    """The library or installed package that a function, class or module belongs to; "" for yours."""
    module = owner.__name__ if isinstance(owner, ModuleType) else getattr(owner, "__module__", None)
    return _library_of(module if isinstance(module, str) else "builtins" if module else "")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # installed under another name
        return str(getattr(sys.modules[package], "__version__", ""))


def _with_inner(code: CodeType) -> list[CodeType]:
    """Code and all functions inside it."""
    codes = [code]
    for each in codes:  # which grows as it is walked
        codes += [constant for constant in each.co_consts if isinstance(constant, CodeType)]
    return codes


def _globals_in(codes: list[CodeType]) -> set[str]:
    """The global names that code reads, which `co_names` mixes with attributes."""
    steps = (step for code in codes for step in dis.get_instructions(code))
    return {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def _imports(codes: list[CodeType], namespace: dict[str, Any]) -> Iterator[ModuleType | None]:
    """The modules that code imports as it runs; None for one that cannot be imported."""
    for code in codes:
        steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
        for level, names, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                try:
                    yield __import__(step.argval, namespace, None, names.argval or (), level.argval)
                except Exception:  # a module may raise any error
                    yield None


def _in_cell(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _text(code: CodeType) -> str:
    """A digest of the text of the file or cell that holds the code; of a file, as long as that is still its text."""
    file = code.co_filename
    linecache.checkcache(file)
    text = "".join(linecache.getlines(file))
    entry: Any = linecache.cache.get(file)
    in_cell = entry is not None and len(entry) > 1 and entry[1] is None  # it has no time of change
    if not text or not (in_cell or code in _codes_in(text, file)):
        return _untold()
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=64)
def _codes_in(text: str, file: str) -> set[CodeType]:
    try:
        return set(_with_inner(compile(text, file, "exec", dont_inherit=True)))
    except SyntaxError:
        return set()


def _untold() -> str:
    """What stands for something that cannot be known: never the same again."""
    return f"not known {secrets.token_hex(8)}"


def _digest(tensor: Tensor) -> str:
    """Shape and eight hex digits, equal exactly where the values are."""
    dense = tensor.detach().cpu().to_dense().resolve_conj().resolve_neg()
    values = dense.contiguous().view(-1).view(torch.uint8).numpy()
    return f"{tuple(tensor.shape)} {hashlib.sha256(values.data).hexdigest()[:8]}"
