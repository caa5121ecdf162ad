"""Imported by the server that forks the processes of tests: what these share.

Their runs leave out what runs in a test leave out, and the machine is measured once for all.
"""

import gc

import pytest
import torch
from tests.small_runs import keep_memory, leave_out

from regard.runs import session_setup

torch.set_num_threads(1)  # a pool of threads is lost in a fork
keep_memory()
leave_out(pytest.MonkeyPatch())
session_setup.inspect_machine("auto")
gc.collect()
gc.freeze()  # a collection in a fork would copy all that was imported
