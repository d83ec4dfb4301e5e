"""How a command ends at SIGINT or SIGTERM: one line, and the exit code of an interrupt."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

INTERRUPTED = 130
"""Exit code after Ctrl-C and after SIGTERM."""

LINE = "interrupted; the same command resumes"

FAREWELL_SECONDS = 5.0
"""How long the end waits for a server to be told of it."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOW_CURSOR = "\033[?25h"


def interrupt_on_sigterm() -> None:
    """Take SIGTERM as Ctrl-C from now on: the command unwinds and says one line.

    Python's default would end the process without a word, and leave temporary folders behind.
    """
    signal.signal(signal.SIGTERM, _interrupt)


def is_interruptible() -> bool:
    """Whether this process is a command that called `interrupt_on_sigterm`."""
    return signal.getsignal(signal.SIGTERM) is _interrupt


@contextmanager
def ending_at_once(farewell: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Within, SIGINT and SIGTERM end the process without unwinding it.

    An exception would do no good in the midst of a stage: Beam wraps it in one of its own, after
    hundreds of lines, and Python drops one that is raised in a finalizer, and goes on. The store
    survives a kill at any point.

    Args:
        farewell: Called in a thread first, for FAREWELL_SECONDS at most.

    """

    def end(*_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # a second one ends it without a farewell
        # In the same context, which holds Prefect's settings.
        thread = threading.Thread(target=copy_context().run, args=(farewell,), daemon=True)
        thread.start()
        thread.join(FAREWELL_SECONDS)
        # The signal may have come in the midst of a write to the same stream.
        cursor = f"{SHOW_CURSOR}\n" if sys.stderr.isatty() else ""
        os.write(2, f"{cursor}remine: {LINE}\n".encode())
        os._exit(INTERRUPTED)

    handlers = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
