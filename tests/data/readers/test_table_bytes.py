"""What a file is by its first bytes."""

import pytest

from regard.data.readers.html_text import is_html
from regard.data.readers.table_bytes import find_memory_form


@pytest.mark.parametrize("after", [b"x", b"<!-", b"<?xml "])
def test_many_comments_before_no_known_element_take_no_time(after):
    content = b"<!-- a -->\n<?xml b?>" * 200 + after
    assert find_memory_form(content) == ""
    assert not is_html("a.txt", content)


def test_comments_before_the_first_element_are_passed_over():
    before = b'<?xml version="1.0"?>\n<!-- <html> -->\n<!-- a -->'
    assert (
        find_memory_form(before + b'<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4">')
        == "TMX"
    )
    assert find_memory_form(before + b"<x:xliff>") == "XLIFF"
    assert is_html("a.txt", before + b"<HTML>")
