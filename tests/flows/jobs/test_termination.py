"""SIGINT and SIGTERM: one line and exit code 130, wherever the signal strikes."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from contextvars import ContextVar
from remine.flows.cli.main import app, main
from remine.flows.jobs import termination

place = ContextVar("place", default="nowhere")


@app.command()
def work():
    termination.interrupt_on_sigterm()
    assert termination.is_interruptible()
    try:
        if sys.argv[2] == "outside":
            wait()
        place.set("here")
        with termination.ending_at_once(lambda: print(f"farewell {place.get()}", flush=True)):
            try:
                wait()
            except BaseException:  # as Beam and finalizers do
                print("swallowed", flush=True)
                time.sleep(60)
    finally:
        print("unwound", flush=True)


def wait():
    print("ready", flush=True)
    time.sleep(60)


place_of_signal, sys.argv = sys.argv[1], [sys.argv[0], "work", sys.argv[1]]
@app.callback(invoke_without_command=True)
def arguments(): pass
sys.argv[1:] = ["work"]
sys.argv.append(place_of_signal)
app.registered_commands[-1].context_settings = {"allow_extra_args": True}
main()
"""


def outcome(number: signal.Signals, place: str) -> tuple[int, str, str]:
    """Exit code, output after the start, and errors of a command that gets a signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, place],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, errors = process.communicate(timeout=30)
    return process.returncode, out, errors


LINE = "remine: interrupted; the same command resumes\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_unwinds(number):
    assert outcome(number, "outside") == (130, "unwound\n", LINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_within_a_cycle_nothing_can_swallow_it(number):
    assert outcome(number, "inside") == (130, "farewell here\n", LINE)


STUBBORN = """
import signal, time
from remine.flows.jobs import termination
termination.FAREWELL_SECONDS = 0.1
before = [signal.getsignal(number) for number in termination.SIGNALS]
with termination.ending_at_once():
    pass
assert before == [signal.getsignal(number) for number in termination.SIGNALS]
assert not termination.is_interruptible()
with termination.ending_at_once(lambda: time.sleep(60)):
    signal.raise_signal(signal.SIGTERM)
"""


def test_a_server_that_does_not_answer_holds_nothing_up():
    process = subprocess.run(
        [sys.executable, "-c", STUBBORN], capture_output=True, text=True, timeout=30, check=False
    )
    assert (process.returncode, process.stderr) == (130, LINE)
