"""The files of tests have the names of what they test."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "regard"
WHOLE = {"contracts", "docs", "examples"}  # of all that a registry, a page or a script names


def is_named_after_its_source(test: Path) -> bool:
    """Return whether a name is that of a module, or of the package, with an aspect behind it."""
    folder = test.parent.relative_to(ROOT / "tests")
    sources = ROOT / folder if folder.parts[:1] == ("benchmarks",) else SOURCES / folder
    names = [sources.name, *(path.stem for path in sources.glob("*.py"))]
    return any(f"{test.stem}_".startswith(f"test_{name}_") for name in names)


def test_a_test_file_is_named_after_a_module_or_a_package():
    files = [*(ROOT / "tests").rglob("test_*.py")]
    assert len(files) > 250
    of_parts = [path for path in files if path.relative_to(ROOT / "tests").parts[0] not in WHOLE]
    misnamed = [path for path in of_parts if not is_named_after_its_source(path)]
    assert [str(path.relative_to(ROOT)) for path in misnamed] == []
