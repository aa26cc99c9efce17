"""What a slot holds, as text: short for people, and exact for telling one run from another."""

import ast
import hashlib
import importlib.metadata
import inspect
import io
import linecache
import pickle
import secrets
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from functools import cache, partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

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

    Not shown are the values of tensors and arrays, the attributes of an object without a printed form, and what your
    code does: a function or class from outside Python, torch and ltlab counts by the text of its file, or of the cell
    that defines it, and by the values that its names, attributes and defaults have now, through modules of yours too.
    A changed comment therefore counts as a change. Code without a text, a file that has changed since it was imported,
    and values that cannot be told, such as a lock, give a text that is never the same again, so that such a run is
    always trained. An installed package counts by its version. What code reads from elsewhere, such as files or the
    environment, is not known.
    """
    hidden = list(_Hidden().of(slot))
    untold = " holds what cannot be known," if any("not known" in text for text in hidden) else ""
    digest = f"{untold} {hashlib.sha256(repr(hidden).encode()).hexdigest()[:8]}" if hidden else ""
    return describe(slot) + digest


CONSTANT = str | int | float | complex | bytes | None
LIBRARIES = {"ltlab", "torch", "torchvision", "numpy", "builtins", *sys.stdlib_module_names} - {"__main__"}
INSTALLED = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib"))
PLACES = (*INSTALLED, sysconfig.get_path("stdlib"))


class _Hidden:
    """A walk through all that a value is made of, which yields what `describe` leaves out.

    An object that is met again is the number of its first time: walks end, and tell [a, b, a] from [a, b, b].
    """

    def __init__(self) -> None:
        self.met: dict[int, tuple[int, object]] = {}  # by id; tuples are not among them, as equal ones may be one

    def of(self, value: object, shown: bool = True) -> Iterator[str]:
        """shown: whether the printed form holds plain values."""
        if isinstance(value, CONSTANT):
            yield from [] if shown else [repr(value)]
        elif isinstance(value, Tensor):
            yield _digest(value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        elif isinstance(value, tuple):
            for part in value:
                yield from self.of(part, shown)
        elif id(value) in self.met:
            yield f"again {self.met[id(value)][0]}"
        else:
            self.met[id(value)] = len(self.met), value
            yield from self._parts(value, shown)

    def _parts(self, value: object, shown: bool) -> Iterator[str]:
        if isinstance(value, FunctionType | BuiltinFunctionType | type | ModuleType):
            yield from self._named(value, shown)
            return
        yield from self._named(type(value), shown)
        parts: Iterable[Any]
        if isinstance(value, MethodType):
            parts = value.__func__, value.__self__
        elif callable(value) and hasattr(value, "__wrapped__"):  # such as a cached function
            parts = (value.__wrapped__,)
        elif isinstance(value, partial):
            parts = value.func, *value.args, *value.keywords.values()
        elif isinstance(value, Loss):
            parts = *value.parameters(), *value.buffers()
        elif isinstance(value, nn.Module):  # its tensors are in `describe`, what its attributes hold is not
            parts = *(held for name, held in vars(value).items() if name[0] != "_"), *value.children()
        elif type(value) is dict:
            parts = value.items()
        elif type(value) is list:
            parts = cast(list, value)
        elif isinstance(value, set | frozenset):
            yield repr(sorted(repr(list(_Hidden().of(part, shown=False))) for part in value))
            return
        elif _library(type(value)) not in ("", "ltlab"):
            yield from self._pickled(value)
            return
        else:  # an object of yours or ltlab's: its attributes, and what it holds as a list or dictionary
            slots = {n: getattr(value, n) for n in getattr(type(value), "__slots__", ()) if hasattr(value, n)}
            held = list(value.items()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
            parts, shown = [*(getattr(value, "__dict__", {}) | slots).items(), *held], _prints_itself(value)
        for part in parts:
            yield from self.of(part, shown)

    def _named(self, owner: object, shown: bool) -> Iterator[str]:
        """Something with a name: of a library the name alone, of yours what it does."""
        name = f"{getattr(owner, '__module__', None)}.{getattr(owner, '__qualname__', getattr(owner, '__name__', ''))}"
        if isinstance(owner, BuiltinFunctionType) or (library := _library(owner)) in LIBRARIES:
            yield from [] if shown else [name]
        elif library:
            yield f"{name} {_version(library)}"
        elif isinstance(owner, FunctionType):
            yield from self._function(owner)
        elif isinstance(owner, type):
            for base in owner.__bases__:
                yield from self.of(base)
            for key, member in vars(owner).items():
                member = getattr(member, "fget", getattr(member, "__func__", member))  # of properties, static methods
                written = isinstance(member, FunctionType) and not (
                    is_dataclass(owner) and inspect.unwrap(member).__code__.co_filename == "<string>"
                )
                if not key.startswith("__") or written:
                    yield key
                    yield from self.of(member, shown=False)
        elif isinstance(owner, ModuleType):
            file = getattr(owner, "__file__", None)
            yield _text(file, None) if file else _untold()
            for key, member in vars(owner).items():
                if not key.startswith("__"):
                    yield key
                    yield from self.of(member, shown=False)

    def _pickled(self, value: object) -> Iterator[str]:
        """A library's object by its pickle, and what it holds of yours."""
        yours: list[object] = []

        class Pickler(pickle.Pickler):
            def persistent_id(self, part: object) -> str | None:
                if isinstance(part, FunctionType | type) and not _library(part):
                    yours.append(part)
                    return "yours"
                return None

        file = io.BytesIO()
        try:
            Pickler(file).dump(value)
        except Exception:  # whatever its class raises
            yield _untold()
        yield hashlib.sha256(file.getvalue()).hexdigest()
        for part in yours:
            yield from self.of(part, shown=False)

    def _function(self, function: FunctionType) -> Iterator[str]:
        code, names = function.__code__, function.__globals__
        wrapper = code.co_filename.startswith(PLACES)  # a library's, around a function of yours
        yield f"{function.__qualname__} {'' if wrapper else _text(code.co_filename, code)}"
        for name in () if wrapper else sorted(_names_in(code) & names.keys()):
            yield name
            yield from self.of(names[name], shown=False)
        closure = [_in_cell(cell) for cell in function.__closure__ or ()]
        for part in (function.__defaults__, function.__kwdefaults__, closure, vars(function)):
            yield from self.of(part, shown=False)


@cache
def _library_of(module: str) -> str:
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return top if top in LIBRARIES or (top != "__main__" and file.startswith(INSTALLED)) else ""


def _library(owner: object) -> str:
    """The library or installed package that a function, class or module belongs to; "" for yours."""
    return _library_of(owner.__name__ if isinstance(owner, ModuleType) else getattr(owner, "__module__", None) or "")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # installed under another name
        return str(getattr(sys.modules[package], "__version__", ""))


def _prints_itself(value: object) -> bool:
    return type(value).__repr__ is not object.__repr__


def _names_in(code: CodeType) -> set[str]:
    """The names that code and the functions inside it use."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _in_cell(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _text(file: str, code: CodeType | None) -> str:
    """A digest of the text of a file or cell; of a file, as long as `code` is what the text says."""
    lines = linecache.getlines(file)
    if not lines:
        return _untold()
    text = "".join(lines)
    entry: Any = linecache.cache[file]
    in_cell = len(entry) > 1 and entry[1] is None  # it has no time of change
    if code is not None and not in_cell:
        linecache.checkcache(file)
        text = "".join(linecache.getlines(file))
        if _does(code) not in map(_does, _codes_in(text, file)):
            return _untold()
    return hashlib.sha256(text.encode()).hexdigest()


def _does(code: CodeType) -> tuple:
    """What code does, wherever it stands, also when it has been copied to another process."""
    constants = (_does(c) if isinstance(c, CodeType) else repr(sorted(map(repr, c)) if isinstance(c, frozenset) else c)
                 for c in code.co_consts)  # fmt: skip
    return code.co_name, code.co_code, code.co_names, *constants


def _codes_in(text: str, file: str) -> list[CodeType]:
    try:
        found = [compile(ast.parse(text), file, "exec", dont_inherit=True)]
    except SyntaxError:
        return []
    for code in found:  # which grows as it is walked
        found += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found


def _untold() -> str:
    """What stands for something that cannot be known: never the same again."""
    return f"not known {secrets.token_hex(8)}"


def _digest(tensor: Tensor) -> str:
    """Shape and eight hex digits, equal exactly where the values are."""
    values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return f"{tuple(tensor.shape)} {hashlib.sha256(values.data).hexdigest()[:8]}"
