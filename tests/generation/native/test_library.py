"""The compiled decoder: its products of integers are exact, its memory is its own."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.sanitizers import assert_clean

from regard.attention.backends import cpu_kernels
from regard.attention.backends.cpu_kernels import compiling, loading
from regard.generation import native
from regard.generation.native import library

SOURCE = Path(__file__).with_name("products.cpp")


@pytest.mark.slow
def test_integers_and_their_sums_are_the_same_on_every_instruction_set(tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++")
    names = [name for name in loading.runnable_names() if library.load(name) is not None]
    if compiler is None or not names:
        pytest.skip("no C++ compiler was found, or the decoder was not compiled")
    headers = Path(native.__file__).parent, Path(cpu_kernels.__file__).parent
    outputs = {}
    for name in names:
        program = tmp_path / name
        options = compiling.instruction_sets()[name].split()
        command = [compiler, "-std=c++20", "-O2", *options, *(f"-I{path}" for path in headers)]
        subprocess.run([*command, str(SOURCE), "-o", str(program)], check=True)
        run = subprocess.run([str(program)], capture_output=True, text=True, check=False)
        assert run.returncode == 0, name  # 1: a sum is wrong; 2: a number was rounded too far
        outputs[name] = run.stdout
    assert set(outputs.values()) == {outputs[names[0]]}


@pytest.mark.slow
def test_no_drawn_shape_reads_or_writes_outside_of_its_memory(tmp_path):
    headers = Path(native.__file__).parent, Path(cpu_kernels.__file__).parent
    assert_clean(Path(__file__).with_name("drive.cpp"), 10, tmp_path, *headers)
