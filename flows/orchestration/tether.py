"""Runs a module for as long as the process that started it lives.

    python -m remine.flows.orchestration.tether MODULE ARGUMENTS...

That process holds the other end of our standard input and never writes to it: however it ends,
`kill -9` too, the system closes its end, and this process stops.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 5


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
