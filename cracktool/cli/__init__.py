"""The command line: options -> one library call -> lines on screen; errors -> exit codes.

One file per command; the only package that prints, and the only home of typer. Nothing heavy is imported before a
command runs.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cracktool import __version__
from cracktool.cli.evaluate import evaluate
from cracktool.cli.export import export
from cracktool.cli.infer import infer
from cracktool.cli.prepare import prepare
from cracktool.cli.screen import print_data, tell
from cracktool.cli.train import train
from cracktool.errors import CrackError

app = typer.Typer(
    name="crack",
    help="Find cracks in photos of pavement, concrete and masonry, pixel by pixel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(prepare)
app.command()(train)
app.command("eval")(evaluate)
app.command()(infer)
app.command()(export)


def main() -> None:
    """Run the command line; every expected error is one line on stderr and an exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller, as in `crack ... >&-`
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files go out as the bytes that they are
    try:
        app()
    except CrackError as error:
        _fail(str(error), error.exit_code, error)
    except Exception as error:  # noqa: BLE001  # the boundary: no traceback reaches a user
        _fail(f"unexpected {type(error).__name__}: {error} (run again with --debug to see where)", 1, error)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print_data(__version__)
        raise typer.Exit


def _fail(line: str, code: int, error: Exception) -> NoReturn:
    if "--debug" in sys.argv:
        raise error
    tell(f"crack: {line}")
    sys.exit(code)
