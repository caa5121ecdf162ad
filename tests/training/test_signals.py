"""SIGTERM ends a process that waits for others, wherever it comes."""

import subprocess
import sys

import pytest

IN_A_CALLBACK = """
import signal, sys, time, weakref
from regard.training.signals import Terminated, raise_on_termination

class Thing:
    pass

raise_on_termination()
thing = Thing()
reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
try:
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
