"""The names that `regard.training` and `regard.generation` offer."""

import subprocess
import sys

import pytest

import regard.generation
import regard.training


@pytest.mark.parametrize("package", [regard.training, regard.generation])
def test_every_public_name_is_there(package):
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match=r"'regard\.training' has no attribute 'zzz'"):
        _ = regard.training.zzz


def test_events_and_signals_load_no_torch():
    script = "import sys; from regard.training import Event, Stopped; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"
