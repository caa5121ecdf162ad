"""Signals end a run: as a request, with an exit code, wherever they come."""

import os
import signal
import subprocess
import sys

import pytest

from regard.training.signals import Stopped, StopRequest, Terminated, raising_once

IN_A_CALLBACK = """
import signal, sys, time, weakref
from regard.training.signals import Terminated, raising_once

class Thing:
    pass

thing = Thing()
reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
try:
    with raising_once():
        del thing  # Python ignores what the callback raises
        time.sleep(60)
except Terminated as error:
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_termination_that_comes_in_a_callback_of_the_interpreter_is_obeyed():
    result = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (143, "")


@pytest.mark.parametrize(
    ("first", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_of_the_signals_of_one_request_the_first_alone_raises(first, error):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    is_cleaned_up = False
    with pytest.raises(KeyboardInterrupt) as caught, raising_once():
        try:
            signal.raise_signal(first)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            is_cleaned_up = True
    assert (is_cleaned_up, caught.type) == (True, error)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_that_comes_after_the_last_look_is_raised_again():
    with pytest.raises(Terminated), raising_once():
        with StopRequest(catches_all=True) as stop:
            signal.raise_signal(signal.SIGTERM)
        stop.raise_unseen()


def test_the_first_signal_is_a_request_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_of_several_processes_a_signal_while_one_ends_changes_nothing():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Stopped), StopRequest(catches_all=True) as stop:
            raise Stopped(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_has_the_exit_code_of_its_signal(signum, code):
    assert Stopped(signum).exit_code == code
