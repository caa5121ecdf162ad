"""What the documentation shows runs, and prints what the page says."""

import doctest
import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in PAGES if _BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_of_a_page_prints_what_it_says(page):
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    shared: dict[str, object] = {}  # the blocks of a page follow each other
    parser = doctest.DocTestParser()
    for number, block in enumerate(blocks):
        name = f"{page.name}, block {number + 1}"
        if ">>>" not in block:
            exec(compile(block, name, "exec"), shared)
            continue
        report: list[str] = []
        test = parser.get_doctest(block, shared, name, str(page), 0)
        result = doctest.DocTestRunner().run(test, out=report.append, clear_globs=False)
        shared = test.globs
        assert result.failed == 0, "".join(report)
