"""From the arguments of the command line to a command and an exit status."""

import io
import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from pickle import PickleError
from typing import Annotated, Any
from zipfile import BadZipFile

from .experiments import compare, report, search, train
from .listing import list_recipes, show_data
from .options import Compute, Data, Photographs, Subset, Training, Watching
from .teaching import assignments, book, lab, quizzes, slides


def detect() -> None:
    """Train a detector on boxes, evaluate it, or draw what it finds."""


COMMANDS = {"lab": lab, "train": train, "compare": compare, "search": search, "report": report, "detect": detect,
            "recipes": list_recipes, "data": show_data, "book": book, "slides": slides, "quizzes": quizzes,
            "assignments": assignments}  # fmt: skip


AFTER = """`ltlab COMMAND --help` lists a command's options; after
`ltlab --install-completion` the Tab key completes them."""


def _overview() -> str:
    lines = (f"  {name:11} {str(command.__doc__).splitlines()[0]}" for name, command in COMMANDS.items())
    return "\n".join(["Usage: ltlab COMMAND [OPTIONS]\n", *lines, f"\n{AFTER}"])


def _check_integers(_app: object, _command: object, arguments: Any) -> None:
    """Refuse 1.5 for an integer, which cyclopts would round."""
    for argument in arguments:
        for token in argument.tokens if argument.hint in (int, int | None) else ():
            if not token.value.lstrip("+-").isdecimal():
                raise ValueError(f"{token.keyword} {token.value}: it must be an integer")


@cache
def _flatten_groups() -> None:
    """Make the fields of the groups options without a prefix, under the group's title."""
    from cyclopts import Group, Parameter

    for order, group in enumerate((Subset, Data, Photographs, Training, Compute, Watching), start=1):
        Parameter(name="*", group=Group(str(group.__doc__), sort_key=order))(group)
    Training.__annotations__["settings"] = Annotated[str | None, Parameter(alias="--protocol")]


def _call(arguments: Sequence[str]) -> None:
    """Call the command that the arguments name; a mistake in them is a ValueError."""
    from .. import require_extra

    require_extra("train")
    from cyclopts import App, CycloptsError, Group, Parameter

    _flatten_groups()
    options = Parameter(
        negative=(),
        allow_repeating=True,  # the last one counts
        short_alias=lambda field, _: "-o" if field.name == "option" else None,
        show_default=lambda value: None if value in (None, ()) or value is False else str(value),
    )
    app = App(
        "ltlab", help_format="plaintext", version_flags=(), default_parameter=options,
        group_parameters=Group("Options", sort_key=0), config=_check_integers,
        print_error=False, exit_on_error=False, result_action="return_value",
    )  # fmt: skip
    for name, command in COMMANDS.items():
        if command is not detect:
            app.command(command, name=name)
    if list(arguments[:1]) == ["detect"]:
        from ..detection.commands import COMMANDS as OF_DETECT

        app.command(inside := App("detect", help=detect.__doc__, result_action="return_value"))
        for name, command in OF_DETECT.items():
            inside.command(command, name=name)
    app["lab"].default_parameter = Parameter(allow_leading_hyphen=True)
    if "--install-completion" in arguments:
        app.register_install_completion_command()
    try:
        app(arguments)
    except CycloptsError as error:
        raise ValueError(error) from error


def _where(error: Exception) -> str:
    """Where custom code raised an error, or its cause, and what; "" if only ltlab and libraries took part."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    inside = (str(Path(__file__).parents[1]), str(Path(os.__file__).parent), sysconfig.get_path("purelib"))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(inside)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}: {type(error).__name__}: {error}" if frames else ""


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status: 2 for a user's mistake, which is one line on standard error."""
    if not sys.stderr.isatty() and "lab" not in arguments[:1]:  # whose notebooks have bars
        os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars of downloads in a log
    try:
        if set(arguments) <= {"-h", "--help"}:
            print(_overview())
        else:
            _call(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, PickleError, BadZipFile) as error:
        place = [f"({where})"] if error.__cause__ and (where := _where(error)) else []
        print("ltlab:", *str(error).split(), *place, file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    except Exception as error:  # custom code raises errors of any type
        if not (where := _where(error)):
            raise
        print(f"ltlab: {' '.join(where.split())}", file=sys.stderr)
        return 2
    return 0 if arguments else 2


def main() -> None:
    """Run the command that this process was started with, and end with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file or a pipe may be in an encoding without –, ± or γ
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))
