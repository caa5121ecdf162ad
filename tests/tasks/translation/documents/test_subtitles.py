"""Subtitles: times stay, cues of several lines are one text, and damage is refused."""

from __future__ import annotations

import pytest
from tests.tasks.translation.documents.stub_model import translate

from regard.errors import DataError

SRT = """1
00:00:01,000 --> 00:00:04,000
<i>Hello there you</i>
all my old friends.

2
00:00:05,000 --> 00:00:06,000 X1:1
- No way.
- Yes!
"""


def fixed(texts):
    """Write a translation of known length."""
    return [["<i>eins zwei drei</i> vier fünf sechs" if "<i>" in t else t.upper()] for t in texts]


def test_a_cue_is_one_text_broken_near_the_middle_and_each_person_has_lines_of_their_own():
    text, _ = translate("a.srt", SRT, fixed)
    expected = SRT.replace(
        "<i>Hello there you</i>\nall my old friends.", "<i>eins zwei drei</i>\nvier fünf sechs."
    ).replace("- No way.\n- Yes!", "- NO WAY.\n- YES!")
    assert text == expected


def test_the_ends_of_lines_and_the_mark_of_windows_stay():
    content = ("\ufeff" + SRT).replace("\n", "\r\n")
    text, _ = translate("a.srt", content, lambda texts: [[t] for t in texts])
    assert text == content


def test_notes_styles_and_settings_of_webvtt_stay():
    content = (
        "WEBVTT - x\nKind: captions\n\nNOTE all words\nstay\n\nSTYLE\n::cue {}\n\nname\n"
        "00:01.000 --> 00:04.000 align:start\nred cat &amp; <00:02.000>dog\n"
    )
    text, _ = translate("a.vtt", content)
    assert text == content.replace("red cat", "der tac")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.srt", "Hello\n\n" + SRT, r'a\.srt:1: "Hello" is neither the number of a cue nor'),
        ("a.srt", SRT.replace("00:00:05,000", "5 s"), r'a\.srt:7: "5 s --> .* are no times'),
        ("a.vtt", SRT, r"a\.vtt:1: WEBVTT was expected"),
        ("a.vtt", "WEBVTT\n\nx\n1 --> 2\nhello\n", r'a\.vtt:4: "1 --> 2" are no times'),
    ],
)
def test_damaged_subtitles_are_refused_with_their_line(name, content, message):
    with pytest.raises(DataError, match=message):
        translate(name, content)


def test_a_text_after_a_blank_line_belongs_to_the_cue_before_it():
    text, filled = translate("a.srt", SRT + "\nred cat\n")
    assert text.endswith("\nder tac\n")
    assert len(filled) == 4


def test_a_translation_that_would_be_read_as_times_is_not_taken():
    text, _ = translate("a.srt", SRT, lambda texts: [["a --> b"] for _ in texts])
    assert text == SRT
