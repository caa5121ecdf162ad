"""What the files at the root of the project say about each other is true."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import regard
from regard.metrics.rouge import rouge_signature

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_SECTION = re.compile(r"\]\(([^)#:]*)#([^)]+)\)")
_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SCRIPT = re.compile(r"\b(?:examples|benchmarks)/\w+\.py\b")
_FILE = re.compile(r"`([\w./]+\.(?:py|md|toml|cff))`")
_CONSTANT = re.compile(r"`(_?[A-Z][A-Z_]{3,})`")
_PLACEHOLDER = re.compile(r"NAME|TASK|FAMILY")
_REGISTRY = re.compile(r"pypi\.org|pythonhosted|download\.pytorch|anaconda\.org|npmjs")


def test_the_version_is_the_installed_one():
    assert regard.__version__ == PROJECT["version"]


def test_sources_that_are_not_installed_have_no_version(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert regard.__version__ == "unknown"
    assert rouge_signature("rouge1").endswith("|version:unknown")


def test_the_changelog_begins_with_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert first is not None
    assert first[1].rstrip(",") == PROJECT["version"]


def test_the_version_is_in_one_place():
    others = ["src/regard/__init__.py", "CITATION.cff", "Makefile", "README.md"]
    assert [name for name in others if PROJECT["version"] in (ROOT / name).read_text()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in _LINK.findall(text) if "://" not in link]
    scripts = [ROOT / script for script in _SCRIPT.findall(text)]
    assert [str(path) for path in links + scripts if not path.exists()] == []


def sections(page: Path) -> set[str]:
    """Return the anchors of a page's headings, by GitHub's rule."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in headings}


def test_the_sections_that_pages_link_to_are_there():
    links = [
        (page, page.parent / file if file else page, section)
        for page in PAGES
        for file, section in _SECTION.findall(page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 10
    missing = [
        f"{page.name}: {target.name}#{section}"
        for page, target, section in links
        if section not in sections(target)
    ]
    assert missing == []


def test_the_files_that_contributing_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = {name for name in _FILE.findall(text) if not _PLACEHOLDER.search(name)}
    assert len(names) > 50
    folders = [ROOT, *(ROOT / "src" / "regard").glob("**/"), *(ROOT / "tests").glob("**/")]
    missing = [name for name in names if not any((folder / name).is_file() for folder in folders)]
    assert missing == []


@pytest.mark.slow
def test_the_constants_that_contributing_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = {name for name in _CONSTANT.findall(text) if not _PLACEHOLDER.search(name)}
    assert len(names) > 10
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    sources = "\n".join(
        file.read_text(encoding="utf-8") for file in files if file != Path(__file__)
    )
    assert sorted(names - set(re.findall(r"\w+", sources))) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_the_host_of_a_registry(page):
    assert _REGISTRY.findall(page.read_text(encoding="utf-8")) == []


def test_continuous_integration_runs_every_python_of_the_classifiers():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    versions = [
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["classifiers"]
        if re.search(r"Python :: 3\.\d+$", classifier)
    ]
    assert versions == re.findall(r'"(3\.\d+)"', workflow)
