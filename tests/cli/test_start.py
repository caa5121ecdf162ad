"""A command loads what it needs: one task, one family, no optimizer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from regard.models import FAMILIES
from regard.tasks import TASKS

_SCRIPT = """
import gc, sys
from regard.__main__ import main

sys.argv = ["regard", *sys.argv[1:]]
assert main() == 0
assert gc.isenabled() and gc.get_freeze_count()
print(*(name for name in sys.modules if name.startswith("regard")), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def loaded(trained):
    """The modules of regard after the translation of a sentence."""
    command = [sys.executable, "-c", _SCRIPT, "translate", str(trained), "1 red cat"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()


@pytest.mark.slow
def test_translating_imports_one_task_and_one_family(loaded):
    packages = {name.split(".")[2] for name in loaded if name.startswith("regard.tasks.")}
    assert packages == {"opening", "sequence_to_sequence", "translation"}
    families = {name.split(".")[2] for name in loaded if name.startswith("regard.models.")}
    assert families & set(FAMILIES) == {"transformer"}
    assert len(TASKS) == 10


@pytest.mark.slow
def test_translating_imports_nothing_of_training_or_of_the_kernels_of_attention(loaded):
    unused = {
        "regard.training.loop",
        "regard.optim.muon",
        "regard.attention.attend",
        "regard.metrics.translation",
        "regard.plots.style",
        "regard.data.readers.tables",
        "regard.hub.hugging_face.published_folder",
        "regard.setup.presets",
    }
    assert not unused & set(loaded)
    assert len(loaded) < 130
