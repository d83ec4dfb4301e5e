"""Run a module only as long as the process that started it lives.

    python -m remine.flows.orchestration.tether MODULE ARGUMENTS...

The parent process holds the other end of our standard input and never writes to it. However the
parent ends, `kill -9` included, the system closes that end, and this process stops.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 5


def _watch() -> None:
    """Wait for the end of standard input, then terminate this process."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
