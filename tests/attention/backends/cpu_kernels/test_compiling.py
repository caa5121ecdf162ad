"""Compiling the kernels: without a compiler there are none, and the reason is told."""

from pathlib import Path

from regard.attention.backends.cpu_kernels import compiling

SOURCES = Path(compiling.__file__).parent


def test_without_a_compiler_the_reason_is_told(tmp_path, monkeypatch):
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


def test_the_digest_changes_with_the_sources(tmp_path):
    (tmp_path / "band.cpp").write_text("one")
    first = compiling.digest_sources(tmp_path)
    (tmp_path / "band.cpp").write_text("two")
    assert compiling.digest_sources(tmp_path) != first
