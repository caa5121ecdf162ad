"""Compiling the kernels: without a compiler there are none, and the reason is told."""

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


def test_the_digest_changes_with_the_sources(tmp_path):
    (tmp_path / "band.cpp").write_text("one")
    first = compiling.digest_sources(tmp_path)
    (tmp_path / "band.cpp").write_text("two")
    assert compiling.digest_sources(tmp_path) != first
