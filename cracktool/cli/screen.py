"""What the commands put on screen: data on stdout, talk on stderr, a bar on a terminal.

The only home of rich and tqdm.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import typer

from cracktool.errors import CrackError, OutputError

if TYPE_CHECKING:
    from tqdm import tqdm

_NAME = 30  # characters; less than half of a usual terminal


@contextlib.contextmanager
def writing(stream: TextIO) -> Iterator[None]:
    """Write to stdout or stderr, around a progress bar that may be on the same terminal.

    When the reader has gone, as in `crack ... | head`, the work goes on in silence: it is files, not lines.

    Raises:
        OutputError: It leads to a file that cannot be written.
    """
    from tqdm import tqdm

    try:
        with tqdm.external_write_mode(stream):
            yield
            stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", path=stream.name) from error


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let Ctrl-C end the program at once while packages are imported: PyTorch loses or mistakes it there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def progress_bar(quiet: bool, **options: Any) -> tqdm[Any]:
    """Return a progress bar on stderr; it shows nothing when stderr is no terminal."""
    from tqdm import tqdm

    return tqdm(disable=True if quiet else None, leave=False, dynamic_ncols=True, **options)


def shown_on(bar: tqdm[Any]) -> Callable[[int, int], None]:
    """Return what shows ``(done, total)`` on a progress bar."""

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show


def print_data(line: object) -> None:
    """Print data to stdout."""
    with writing(sys.stdout):
        print(line)


def tell(line: str) -> None:
    """Talk to the user on stderr."""
    with writing(sys.stderr):
        print(line, file=sys.stderr)


def warn(lines: Iterable[str]) -> None:
    """Talk of what is not right but stops nothing."""
    for line in lines:
        tell(f"crack: warning: {line}")


def finish(failures: Iterable[CrackError], code: int = 0) -> None:
    """Print one line for each failure, and leave with `code`, or with 1 where that is 0 and there is any failure."""
    lines = [f"crack: {error}" for error in failures]
    for line in lines:
        tell(line)
    if lines or code:
        raise typer.Exit(code or 1)


def print_table(rows: Sequence[Sequence[str]], file: TextIO) -> None:
    """Print a table whose first row is its head: drawn on a terminal, tab-separated for other programs.

    On a narrow terminal cells are folded, never cut, and short names in the first column stay in one piece.
    """
    if not file.isatty():
        lines = "\n".join("\t".join(row) for row in rows)
        print_data(lines) if file is sys.stdout else tell(lines)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    named = max(len(row[0]) for row in rows) <= _NAME
    for number, title in enumerate(rows[0]):
        table.add_column(title, justify="right" if number else "left", overflow="fold", no_wrap=named and not number)
    for row in rows[1:]:
        table.add_row(*row)
    Console(file=file, markup=False, emoji=False).print(table)  # a file may be called [/b].jpg
