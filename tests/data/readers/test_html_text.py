"""Pages of HTML: the text that a browser shows, and where it is read."""

import itertools
import subprocess
import sys

import pytest

from regard.data.progress import report_stages
from regard.data.readers import html_text, open_source, read_html
from regard.errors import DataError
from regard.tasks import guess_task

PAGE = """<!DOCTYPE html>
<html><head><meta charset="iso-8859-1"><title>T</title><style>p{}</style>
<script>if (a<b) x("</p>");</script></head><body><h1>The cat</h1><p>A <b>bl</b>ack cat &amp; a
d&ouml;g on the m\xe9t.</p><ul><li>one<li>two</ul><table><tr><td>a</td><td>b</td></tr></table>
<pre>x = 1
y = 2</pre><noscript>no</noscript><svg><text>no</text></svg>end<br/>line</body></html>
"""
TEXT = """The cat
A black cat & a dög on the mét.
one
two
a b
x = 1
y = 2
end
line"""


@pytest.fixture
def page(tmp_path):
    """The name of a file of HTML."""
    path = tmp_path / "page.html"
    path.write_text(PAGE, encoding="latin-1")
    return path


def test_the_text_of_a_page_is_what_a_browser_shows_in_lines(page):
    assert read_html(open_source(page)) == TEXT


def test_a_page_without_text_or_in_another_encoding_is_refused(page):
    page.write_text("<html><script>a</script></html>")
    with pytest.raises(DataError, match="a page of HTML without text"):
        read_html(open_source(page))
    page.write_bytes(b"<html>caf\xe9</html>")
    with pytest.raises(DataError, match="not UTF-8"):
        read_html(open_source(page))
    assert read_html(open_source(page), "latin-1") == "café"


def test_a_page_of_one_line_is_counted_while_it_is_read(page, monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr("regard.data.progress.time.monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(html_text, "_PIECE", 7)  # tags and entities are cut anywhere
    page.write_text(PAGE.replace("\n", " "), encoding="latin-1")
    stages = []
    with report_stages(stages.append):
        text = read_html(open_source(page))
    assert text.split() == TEXT.split()
    assert any(stage.unit == "MB" and stage.done > 0 for stage in stages)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["page.html", "page.txt", "."])
def test_pages_are_no_training_data_and_have_the_command_that_writes_their_text(page, name):
    page.rename(page.parent / ("page.html" if name == "." else name))
    with pytest.raises(DataError) as raised:
        guess_task(page.parent / name)
    command = str(raised.value)[str(raised.value).index("python -c") :]
    command = command.replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, cwd=page.parent, check=True)
    assert (page.parent / "text.txt").read_text() == f"{TEXT}\n"
