"""The compiled kernels over drawn bands, watched by the sanitizers for addresses and for C++."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from regard.attention.backends import cpu_kernels
from regard.attention.backends.cpu_kernels import compiling, loading

FLAGS = "-std=c++20 -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
DRIVER = Path(__file__).with_name("drive.cpp")


@pytest.mark.slow
def test_no_drawn_band_reads_or_writes_outside_of_its_memory(tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler was found")
    program, probe = tmp_path / "drive", tmp_path / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    command = [compiler, *FLAGS.split()]
    if subprocess.run([*command, str(probe), "-o", str(program)], check=False).returncode != 0:
        pytest.skip("the compiler has no sanitizers")
    names = [name for name in loading.runnable_names() if loading.load(name) is not None]
    options = compiling.instruction_sets()[names[0] if names else "baseline"]
    command += [*options.split(), '-DDIGEST=""', f"-I{Path(cpu_kernels.__file__).parent}"]
    subprocess.run([*command, str(DRIVER), "-o", str(program)], check=True)
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [str(program), "40"], capture_output=True, text=True, env=environment, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
