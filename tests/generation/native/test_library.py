"""The compiled decoder: its products of integers are exact, its memory is its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from regard.attention.backends import cpu_kernels
from regard.attention.backends.cpu_kernels import compiling, loading
from regard.generation import native

SOURCE = Path(__file__).with_name("products.cpp")
FLAGS = "-std=c++20 -O0 -fsanitize=address,undefined -fno-sanitize-recover=all"
DRIVER = Path(__file__).with_name("drive.cpp")


@pytest.mark.slow
def test_integers_and_their_sums_are_the_same_on_every_instruction_set(tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++")
    names = [name for name in loading.runnable_names() if native.library.load(name) is not None]
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
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler was found")
    program, probe = tmp_path / "drive", tmp_path / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    command = [compiler, *FLAGS.split()]
    if subprocess.run([*command, str(probe), "-o", str(program)], check=False).returncode != 0:
        pytest.skip("the compiler has no sanitizers")
    options = compiling.instruction_sets()[loading.runnable_names()[0]].split()
    headers = Path(native.__file__).parent, Path(cpu_kernels.__file__).parent
    command += [*options, '-DDIGEST=""', *(f"-I{folder}" for folder in headers)]
    subprocess.run([*command, str(DRIVER), "-o", str(program)], check=True)
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [str(program), "10"], capture_output=True, text=True, env=environment, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
