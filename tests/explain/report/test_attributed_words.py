"""Tokens of an input joined to words for the report."""

from regard.explain.report.attributed_words import WordScore, merge_pieces


def test_pieces_that_continue_a_word_are_added_to_it_whatever_marks_them():
    word_pieces = [WordScore(text, "text", 1.0) for text in ("the", "river", "flow", "##s")]
    assert merge_pieces(word_pieces) == [
        WordScore(" the", "text", 1.0),
        WordScore(" river", "text", 1.0),
        WordScore(" flows", "text", 2.0),
    ]
    with_spaces = [WordScore(text, "text", 1.0) for text in (" the", " river", " flow", "s")]
    assert merge_pieces(with_spaces) == merge_pieces(word_pieces)
