"""Running a C++ program under the sanitizers for addresses and for what C++ leaves undefined."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from regard.attention.backends.cpu_kernels import compiling, loading

# Unoptimized code is compiled in a fifth of the time.
_FLAGS = "-O0 -std=c++20 -fsanitize=address,undefined -fno-sanitize-recover=all"
# What is undefined ends the program without a word: that is compiled in two thirds of the time.
_WORDLESS = "-fsanitize-undefined-trap-on-error"


def assert_clean(driver: Path, num_draws: int, folder: Path, *headers: Path) -> None:
    """Compile a program for this machine, and assert that it ends in silence.

    Skips the test where there is no compiler, or none with sanitizers.

    Args:
        driver: The program; its argument is the number of cases that it draws.
        num_draws: Number of cases.
        folder: Where it is compiled.
        headers: Folders of what it includes.
    """
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler was found")
    program, probe = folder / "drive", folder / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    command = [compiler, *_FLAGS.split()]
    if subprocess.run([*command, str(probe), "-o", str(program)], check=False).returncode != 0:
        pytest.skip("the compiler has no sanitizers")
    options = compiling.instruction_sets()[loading.runnable_names()[0]].split()
    command += [*options, '-DDIGEST=""', *(f"-I{path}" for path in headers)]
    command += [str(driver), "-o", str(program)]
    subprocess.run([*command, _WORDLESS], check=True)
    run = _run(program, num_draws)
    if run.returncode < 0:  # a signal, which says nothing
        subprocess.run(command, check=True)
        pytest.fail(f"signal {-run.returncode}: {_run(program, num_draws).stderr}")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def _run(program: Path, num_draws: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(program), str(num_draws)], capture_output=True, text=True, env=environment, check=False
    )
