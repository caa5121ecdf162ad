"""Markdown: prose is translated, and all else stays."""

from __future__ import annotations

import pytest
from tests.tasks.translation.documents.stub_model import translate

KEPT = [
    "---\ntitle: red cat\n---\n",
    "```python\nred = cat\n```\n",
    "    red cat\n",
    "<div>\nred cat\n</div>\n",
    "[ref]: http://x.org 'red cat'\n",
    "![red cat](a.png)\n",
    "[![red](a.svg)](http://x.org)\n",
    "***\n",
]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_not_prose_stays(text):
    assert translate("a.md", text)[0] == text


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        ("# red cat #\n", "# der tac #\n"),
        ("red cat\n=======\n", "der tac\n=======\n"),
        ("> red cat\n> old dog\n", "> der tac\n> dlo god\n"),
        ("1. red cat\n   * [ ] old dog\n", "1. der tac\n   * [ ] dlo god\n"),
        ("red `old cat` dog\n", "der `old cat` god\n"),
        (
            "see [ red cat ](http://x.org/a_b 'red') now\n",
            "ees [ der tac ](http://x.org/a_b 'red') won\n",
        ),
        ("a ** red ** cat <b> old </b> &amp; dog\n", "a ** der ** tac <b> dlo </b> &amp; god\n"),
        ("| red cat | `old` |\n|---|---|\n| dog \\| cat | |\n", None),
        ("red cat  \nold dog\n", "der tac  \ndlo god\n"),
        ("> [!NOTE]\n> red cat\n", "> [!NOTE]\n> der tac\n"),
        ("red [ref] cat\n\n[ref]: http://x.org\n", "der [ref] tac\n\n[ref]: http://x.org\n"),
        ("red cat\r\n\r\nold dog", "der tac\r\n\r\ndlo god"),
    ],
)
def test_prose_is_translated_where_it_is(text, translation):
    if translation is None:
        translation = "| der tac | `old` |\n|---|---|\n| god \\| tac | |\n"
    assert translate("a.md", text)[0] == translation


@pytest.mark.parametrize(
    "output",
    [
        "# rot",
        "- rot",
        "rot `Katze` `neu`",
        "rot *Katze*",
        "rot <br> Katze",
        "rot\n\nKatze",
        "| a |",
    ],
)
def test_an_output_that_would_be_other_markdown_is_not_taken(output):
    text, _ = translate("a.md", "red `cat`\n", lambda texts: [[output] for _ in texts])
    assert text == "red `cat`\n"


def test_a_cell_takes_no_new_column():
    table = "| red | cat |\n|---|---|\n"
    assert translate("a.md", table, lambda texts: [["a | b"] for _ in texts])[0] == table
