"""Ctrl-C once: finish what is under way; twice: stop at once.

Changes how this process takes the signal only inside the block.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def interruptible(say: Callable[[], None]) -> Iterator[threading.Event]:
    """Give an event that the first interruption (SIGINT, SIGTERM) sets; the second one is a KeyboardInterrupt.

    Outside the main thread, which alone is told of signals, nothing sets the event.

    Args:
        say: Called at the first interruption.

    Example:
        >>> with interruptible(lambda: print("finishing")) as stop:
        ...     results = list(infer_folder(predictor, ["photos"], Path("masks"), stop=stop))
    """
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
