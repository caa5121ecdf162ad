"""Which column holds what, from the names that people give."""

import pytest

from regard.data.readers.columns import (
    SUMMARY_ROLES,
    describe_missing,
    find_column,
    find_pair,
    find_roles,
)


@pytest.mark.parametrize(
    "header",
    [
        *("text,label", "Text, Label", "review,sentiment", "sentence,category"),
        "id,Comment,RATING",
        *("headline,topic", "Title,Genre", "description,section"),
    ],
)
def test_text_and_label_are_found_by_the_usual_names(header):
    names = [name.strip() for name in header.split(",")]
    assert list(find_roles(names)) == ["text", "label"]
    assert list(find_roles(names).values()) == names[-2:]


@pytest.mark.parametrize(
    ("header", "pair"),
    [
        ("source,target", ("source", "target")),
        ("TGT,note,Src", ("Src", "TGT")),
        ("source text,target_text", ("source text", "target_text")),
        ("id,en,de", ("en", "de")),
        ("id,English,French", ("English", "French")),
        ("English (US),German (Germany)", ("English (US)", "German (Germany)")),
        ("text_en,text_de", ("text_en", "text_de")),
        ("Deutsch,Englisch", ("Deutsch", "Englisch")),
        ("Original,Translation", ("Original", "Translation")),
        ("English,French,German", None),
        ("text,label", None),
    ],
)
def test_pairs_are_found_by_role_code_or_language(header, pair):
    assert find_pair(header.split(",")) == pair


def test_an_exact_name_is_preferred_and_an_ambiguous_one_is_not_guessed():
    assert find_column(["Label", "label"], "label") == "label"
    assert find_column(["category", "rating"], "label") is None
    assert find_column(["Source Text", "x"], "source_text") == "Source Text"


def test_a_common_name_is_preferred_to_a_less_common_one():
    names = ["title", "review", "sentiment", "type"]
    assert find_roles(names) == {"text": "review", "label": "sentiment"}


def test_fields_that_describe_a_text_of_records_are_not_labels():
    assert find_roles(["text", "type"], is_table=False) == {"text": "text"}


@pytest.mark.parametrize(
    ("header", "document", "summary"),
    [
        ("id,document,summary", "document", "summary"),
        ("article,highlights,id", "article", "highlights"),  # cnn_dailymail
        ("id,dialogue,summary,topic", "dialogue", "summary"),  # dialogsum
        ("report,summary", "report", "summary"),
        ("text,summary,title", "text", "summary"),  # billsum
        ("Text,Summary", "Text", "Summary"),
        ("article,abstract,section_names", "article", "abstract"),
        ("document,summary,label", "document", "summary"),
    ],
)
def test_documents_and_summaries_are_found_by_the_usual_names(header, document, summary):
    names = header.split(",")
    assert find_pair(names, SUMMARY_ROLES) == (document, summary)
    roles = find_roles(names)
    assert [roles["document"], roles["summary"]] == [document, summary]


@pytest.mark.parametrize(
    "header",
    ["text,summary,rating", "text,label,summary", "text,abstract", "title,abstract,category"],
)
def test_a_summary_next_to_a_text_with_a_label_is_one_more_field(header):
    assert not {"document", "summary"} & find_roles(header.split(",")).keys()


def test_a_message_names_ten_columns_at_most_and_the_beginning_of_long_names():
    names = ["A sentence where a name of a column was expected.", *"abcdefghij"]
    assert describe_missing("column", "text", names) == (
        'no column "text".  Columns seen: A sentence where a name of a column was …, '
        "a, b, c, d, e, f, g, h, i and 1 more."
    )
