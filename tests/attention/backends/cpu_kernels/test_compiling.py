"""Compiling the kernels: without a compiler there are none, and the reason is told."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from regard.attention.backends.cpu_kernels import compiling, loading

SOURCES = Path(compiling.__file__).parent


def test_without_a_compiler_the_reason_is_reported(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiling.compile_kernels(SOURCES, tmp_path) == "no C++ compiler was found"


def test_a_compiler_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "_baseline.so").write_text("of an earlier run")
    monkeypatch.setenv("CXX", "false")
    assert compiling.compile_kernels(SOURCES, tmp_path).startswith("false failed")
    assert not list(tmp_path.iterdir())


def test_a_processor_that_is_not_known_has_no_kernels(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling.platform, "machine", lambda: "abacus")
    monkeypatch.setenv("CXX", "true")
    reason = compiling.compile_kernels(SOURCES, tmp_path)
    assert reason == "the processor abacus is not known"


@pytest.mark.parametrize("compiler", ["no-such-compiler", "'unclosed", "/"])
def test_a_compiler_that_cannot_be_run_is_named(tmp_path, monkeypatch, compiler):
    monkeypatch.setenv("CXX", compiler)
    assert compiling.compile_kernels(SOURCES, tmp_path).startswith(f"{compiler} cannot be run: ")


def test_a_compiler_that_makes_nothing_has_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "true")
    assert compiling.compile_kernels(SOURCES, tmp_path).startswith("true failed")


def fake_compiler(folder, machine):
    """A compiler for a machine, which writes its arguments in place of a library."""
    script = folder / "compiler with space"
    script.write_text(
        f"#!/bin/sh\nif [ $1 = -dumpmachine ]; then echo {machine}-linux-gnu; exit; fi\n"
        'for last; do :; done; echo "$@" > "$last"\n'
    )
    script.chmod(0o755)
    return f"'{script}'"


def test_kernels_are_of_the_machine_that_the_wheel_is_for(tmp_path, monkeypatch):
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", "linux-aarch64")
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, "x86_64"))
    reason = compiling.compile_kernels(SOURCES, tmp_path)
    assert reason.endswith("compiles for x86_64, not for aarch64")
    assert not list(tmp_path.glob("_*.so"))
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, "arm64"))
    assert compiling.compile_kernels(SOURCES, tmp_path) is None
    assert [path.name for path in tmp_path.glob("_*.so")] == ["_baseline.so"]


def test_the_flags_of_the_environment_are_obeyed(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling.platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, "aarch64"))
    monkeypatch.setenv("CXXFLAGS", "-O1 -DNAME='a b'")
    assert compiling.compile_kernels(SOURCES, tmp_path) is None
    assert "-O1 -DNAME=a b" in (tmp_path / "_baseline.so").read_text()


def test_headers_of_another_folder_are_found_and_belong_to_the_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling.platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, "aarch64"))
    headers = tmp_path / "headers"
    headers.mkdir()
    (headers / "shared.h").write_text("one")
    assert compiling.compile_kernels(SOURCES, tmp_path, headers) is None
    arguments = (tmp_path / "_baseline.so").read_text()
    assert f"-I{headers}" in arguments
    assert compiling.digest_sources(SOURCES, headers) in arguments
    assert compiling.digest_sources(SOURCES) not in arguments


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF\x02\x01\x01" + bytes(100)])
def test_a_library_that_cannot_be_loaded_is_passed_over_and_said_once(
    tmp_path, monkeypatch, content
):
    for name in compiling.instruction_sets():
        (tmp_path / f"_{name}.so").write_bytes(content)
    monkeypatch.setattr(loading, "_FOLDER", tmp_path)
    with pytest.warns(UserWarning, match=r"for another machine.*Install regard again") as warned:
        assert loading.load_fastest.__wrapped__() is None
    assert len(warned) == 1


# Compiles in no time, with a sum that inexact arithmetic gets wrong.
TINY = """
#define EXPORTED extern "C" __attribute__((visibility("default")))
EXPORTED const char *regard_digest() { return DIGEST; }
EXPORTED int regard_can_run() { return 1; }
EXPORTED double rounded(double x) {
    const double big = 6755399441055744.0;
    return (x + big) - big;
}
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder of sources for two instruction sets that every processor here can run."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    for name in ("CXX", "CXXFLAGS", "_PYTHON_HOST_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    sets = {"fast": "", "slow": ""}
    monkeypatch.setattr(compiling, "instruction_sets", lambda machine=None: sets)
    monkeypatch.setattr(loading, "runnable_names", lambda: list(sets))
    monkeypatch.setattr(loading, "_FOLDER", tmp_path)
    (tmp_path / "tiny.cpp").write_text(TINY)
    return tmp_path


@pytest.mark.parametrize(
    "flags", ["-ffast-math", "-Ofast", "-O2 -funsafe-math-optimizations -ffinite-math-only"]
)
def test_fast_mathematics_in_the_flags_leave_results_and_subnormal_numbers_right(
    tiny, monkeypatch, flags
):
    monkeypatch.setenv("CXXFLAGS", flags)
    monkeypatch.setenv("CXX", f"c++ {flags}")
    assert compiling.compile_kernels(tiny, tiny) is None
    code = (
        "import ctypes\n"
        f"library = ctypes.CDLL({str(tiny / '_fast.so')!r})\n"
        "library.rounded.restype, library.rounded.argtypes = ctypes.c_double, [ctypes.c_double]\n"
        "print(library.rounded(2.4), 5e-324 * 1.0, float('1e-310') / 2)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["2.0", "5e-324", "5e-311"]


def test_a_compiler_in_a_folder_with_a_space_needs_no_quotes(tiny, monkeypatch):
    folder = tiny / "my tools"
    folder.mkdir()
    (folder / "compiler").symlink_to(shutil.which("c++"))
    monkeypatch.setenv("CXX", str(folder / "compiler"))
    assert compiling.compile_kernels(tiny, tiny) is None
    monkeypatch.setenv("CXX", f"'{folder / 'compiler'}' -O1")
    assert compiling.compile_kernels(tiny, tiny) is None
    monkeypatch.setenv("CXX", "  ")
    assert compiling.compile_kernels(tiny, tiny) is None
    assert sorted(path.name for path in tiny.glob("_*.so")) == ["_fast.so", "_slow.so"]


def test_whatever_goes_wrong_is_a_reason_and_no_error(tiny, monkeypatch):
    monkeypatch.setenv("CXXFLAGS", "-O1 'unclosed")
    reason = compiling.compile_kernels(tiny, tiny)
    assert reason.endswith("cannot be run: CXXFLAGS=-O1 'unclosed: No closing quotation")
    monkeypatch.delenv("CXXFLAGS")
    script = tiny / "compiler"
    script.write_bytes(
        b'#!/bin/sh\n[ $1 = -dumpmachine ] && exit\nprintf "\\344rger\\n" >&2\nexit 1\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert compiling.compile_kernels(tiny, tiny) == f"{script} failed: \ufffdrger"
    script.write_text('#!/bin/sh\nrm "$0"\n')  # gone after its first answer
    assert compiling.compile_kernels(tiny, tiny).startswith(f"{script} cannot be run: ")
    (tiny / "_slow.so").mkdir()
    assert "_slow.so" in compiling.compile_kernels(tiny, tiny)


def damage(path, kind):
    """Damage a library in one way."""
    content = path.read_bytes()
    path.unlink()
    if kind == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "a text":
        path.write_text("not a library")
    elif kind == "a folder":
        path.mkdir()
    else:  # of another architecture
        path.write_bytes(content[:18] + (183).to_bytes(2, "little") + content[20:])


@pytest.mark.parametrize(
    ("names", "cost"),
    [
        (("_fast.so",), "slower ones are: _slow.so"),
        (("_fast.so", "_slow.so"), "so attention is slower"),
    ],
)
@pytest.mark.parametrize("kind", ["cut off", "a text", "a folder", "of another architecture"])
def test_damaged_kernels_are_passed_over_aloud(tiny, kind, names, cost):
    assert compiling.compile_kernels(tiny, tiny) is None
    for name in names:
        damage(tiny / name, kind)
    with pytest.warns(UserWarning, match="are damaged, or were compiled from other") as warned:
        library = loading.load_first(tiny, None, "attention is slower")
    assert (library is None) == (len(names) == 2)
    (message,) = (str(warning.message) for warning in warned)
    assert message.startswith(f"the kernels {' and '.join(names)} in {tiny} are damaged")
    assert f"not used, {cost}.  Install regard again" in message


def test_the_digest_changes_with_the_sources(tmp_path):
    (tmp_path / "band.cpp").write_text("one")
    first = compiling.digest_sources(tmp_path)
    (tmp_path / "band.cpp").write_text("two")
    assert compiling.digest_sources(tmp_path) != first
