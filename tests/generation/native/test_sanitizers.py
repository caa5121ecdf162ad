"""The compiled decoder over drawn shapes, watched by the sanitizers for addresses and for C++."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from regard.attention.backends import cpu_kernels
from regard.attention.backends.cpu_kernels import compiling, loading
from regard.generation import native

FLAGS = "-std=c++20 -O0 -fsanitize=address,undefined -fno-sanitize-recover=all"
DRIVER = Path(__file__).with_name("drive.cpp")


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
