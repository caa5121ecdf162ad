"""Which files are taken for series with times, and which keep their task."""

import json
import subprocess

import pytest

from regard.data.readers.labeled import read_labeled_texts
from regard.data.readers.shape import inspect_shape
from regard.data.readers.source import open_source
from regard.data.readers.tables import read_pairs
from regard.errors import DataError
from regard.tasks import guess_task


@pytest.fixture
def source(tmp_path):
    """Returns the source of a file with some lines."""

    def open_lines(lines, name="f.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return open_source(path)

    return open_lines


DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
FORECASTING = {
    "a wide table": ["date,a,b", *(f"{day},1,2" for day in DAYS)],
    "five columns": ["date,a,b,c,d", *(f"{day},1,2,3,4" for day in DAYS)],
    "a long table": ["date,shop,v", *(f"{day},{shop},1" for day in DAYS for shop in "AB")],
    "names in a column category": [
        "date,category,v",
        *(f"{day},{name},1" for day in DAYS for name in ("toys", "food")),
    ],
    "long names of series": [
        "date,name,v",
        *(f"{day},all goods and services,{v}" for v, day in enumerate(DAYS)),
    ],
    "years": ["Year,v", "1821,269", "1822,321", "1823,585"],
    "a count": ["t,v", "0,269", "1,321", "2,585"],
    "no header": [f"{day},1" for day in DAYS],
    "a damaged number": ["date,v", "2024-01-01,x", "2024-01-02,2", "2024-01-03,3"],
    "a damaged date": ["date,v", "2024-01-01,1", "2024-01-99,2", "2024-01-03,3"],
    "irregular days": ["date,v", "2024-01-01,1", "2024-01-05,2", "2024-02-03,3"],
    "a target": ["timestamp,target", *(f"{day},1" for day in DAYS)],
    "a time, one value and a label": ["time,value,label", *(f"{day},1,0" for day in DAYS)],
    "names in a column label": [
        "time,label,value",
        *(f"{day},{name},1" for day in DAYS for name in "ab"),
    ],
    "times of an unknown form": [
        "time,value",
        *(f"Fri Mar 01 2024 0{hour}:00:00 GMT+0100 (CET),{hour}" for hour in range(4)),
    ],
    "months of another language": ["Monat,Wert", "Januar 2024,1", "Februar 2024,2", "Mai 2024,3"],
    "ratings": ["date,rating", *(f"{day},4.5" for day in DAYS)],
}


@pytest.mark.parametrize("lines", FORECASTING.values(), ids=FORECASTING)
@pytest.mark.parametrize("name", ["f.csv", "f.txt"])
def test_times_with_numbers_are_series(source, lines, name):
    assert inspect_shape(source(lines, name)).has_time_column


def test_records_and_tabs_are_series(source):
    records = [f'{{"ds": "{day}", "y": 1.5}}' for day in DAYS]
    assert inspect_shape(source(records, "f.jsonl")).has_time_column
    assert inspect_shape(source(["date\tv", *(f"{d}\t1" for d in DAYS)], "f.tsv")).has_time_column


SENTENCES = ["The cat sat on the mat.", "A dog ran away from us.", "It rained for the whole day."]
OTHERS = {
    "texts with labels and a date": (
        ["date,text,label", *(f"{d},{text},good" for d, text in zip(DAYS, SENTENCES, strict=True))],
        "f.csv",
        "classification",
    ),
    "reviews with stars and a date": (
        ["date,review,stars", *(f"{d},{text},5" for d, text in zip(DAYS, SENTENCES, strict=True))],
        "f.csv",
        "classification",
    ),
    "short texts with labels": (
        ["date,text,label", "2024-01-01,fine,1", "2024-01-02,bad,0", "2024-01-03,good,1"],
        "f.csv",
        "classification",
    ),
    "rows of numbers with a label and a date": (
        ["date,label,a,b,c,d", *(f"{day},x,1,2,3,4" for day in DAYS)],
        "f.csv",
        "series-classification",
    ),
    "a time, two values and a label": (
        ["time,x,y,label", *(f"{day},1,2,0" for day in DAYS)],
        "f.csv",
        "series-classification",
    ),
    "a value and a label at irregular times": (
        ["date,value,label", "2024-05-01,1,a", "2024-01-02,2,b", "2024-02-17,1,a"],
        "f.csv",
        "series-classification",
    ),
    "rows of numbers with a label": (
        ["label,x1,x2,x3", "a,1,2,3", "b,2,3,4", "a,3,4,5"],
        "f.csv",
        "series-classification",
    ),
    "dates in two languages": (
        ["31.12.2024\t12/31/2024", "1.1.2025\t1/1/2025", "2.1.2025\t1/2/2025"],
        "f.tsv",
        "translation",
    ),
    "sentence pairs with a number": (
        ["id,en,de", *(f"{n},{text},{text}" for n, text in enumerate(SENTENCES))],
        "f.csv",
        "translation",
    ),
    "sentence pairs with a date": (
        ["date,source,target", *(f"{d},{t},{t}" for d, t in zip(DAYS, SENTENCES, strict=True))],
        "f.csv",
        "translation",
    ),
    "a diary": ([f"{day}, {text}" for day, text in zip(DAYS, SENTENCES, strict=True)], "f.txt", ""),
    "records with a text": (
        [
            f'{{"date": "{d}", "text": "{t}", "likes": 5}}'
            for d, t in zip(DAYS, SENTENCES, strict=True)
        ],
        "f.jsonl",
        "language-modeling",
    ),
    "numbers without times": (["a,b", "1,2", "2,3", "3,4"], "f.csv", ""),
    "times that do not rise": (["time,v", "231,1", "54,2", "889,3"], "f.csv", ""),
}


@pytest.mark.parametrize(("lines", "name", "task"), OTHERS.values(), ids=OTHERS)
def test_other_files_keep_their_task(source, lines, name, task):
    data = source(lines, name)
    assert not inspect_shape(data).has_time_column
    assert not task or guess_task(data) == task


LABEL_LIKE = {
    "texts": [f'"category_name": "{("good", "bad")[i % 2]}"' for i in range(20)],
    "numbers": [f'"points": {i % 5}' for i in range(20)],
    "truth values": [f'"is_spam": {("true", "false")[i % 2]}' for i in range(20)],
    "a type": [f'"type": "{("good", "bad")[i % 2]}"' for i in range(20)],
}
DESCRIBING = {
    "addresses": [f'"url": "example.org/{i}"' for i in range(20)],
    "one language": ['"lang": "en"' for _ in range(20)],
    "lists": [f'"tags": ["{("good", "bad")[i % 2]}"]' for i in range(20)],
    "objects": ['"meta": {"set": "a"}' for _ in range(20)],
}


def records_of(fields):
    return [f'{{"text": "this is text number {i}", {field}}}' for i, field in enumerate(fields)]


@pytest.mark.parametrize("fields", LABEL_LIKE.values(), ids=LABEL_LIKE)
def test_a_text_next_to_what_may_be_its_label_is_not_running_text(source, fields):
    opened = source(records_of(fields), "f.jsonl")
    assert guess_task(opened) == "translation"  # whose reader refuses it with what to do
    assert guess_task(opened, columns=["text"]) == "language-modeling"


@pytest.mark.parametrize("fields", DESCRIBING.values(), ids=DESCRIBING)
def test_a_text_next_to_what_describes_it_is_running_text(source, fields):
    assert guess_task(source(records_of(fields), "f.jsonl")) == "language-modeling"


@pytest.mark.parametrize(("name", "what"), [("a.po", "PO"), ("a.tsf", "Monash")])
def test_a_format_without_a_reader_is_named(name, what, tmp_path):
    path = tmp_path / name
    path.write_text("one text")
    with pytest.raises(DataError) as raised:
        inspect_shape(open_source(path))
    assert what in str(raised.value)
    assert "TSV, CSV or JSONL: source and target" in str(raised.value)


def test_categories_of_spacy_are_not_running_text(source):
    row = '{"text": "a b", "cats": {"POS": 1, "NEG": 0}}'
    opened = source([row, row], "f.jsonl")
    assert guess_task(opened) == "translation"  # whose reader refuses it with what to do
    with pytest.raises(DataError, match=r"Labels of spaCy.*max_by\(\.value\)\.key"):
        read_pairs(opened)


def test_categories_of_spacy_that_do_not_exclude_each_other_become_lists(source):
    row = '{"text": "a b", "cats": {"POS": 1, "NEW": 0.7}}'
    with pytest.raises(DataError, match=r"spaCy\?  All of each text: .*select\(\.value>=0\.5\)"):
        read_pairs(source([row, row], "f.jsonl"))


@pytest.mark.parametrize(
    ("values", "command"),
    [
        ('{"a": 1, "b": 0}', "labels: [.labels|to_entries[]|select(.value>=0.5).key]"),
        ('{"a": true, "b": false}', "labels: [.labels|to_entries[]|select(.value).key]"),
        ('{"a": 0.75, "b": 0.25}', "label: (.labels|to_entries|max_by(.value).key)"),
    ],
)
def test_a_number_for_each_label_comes_with_the_command_that_makes_labels(source, values, command):
    row = f'{{"text": "a b", "labels": {values}}}'
    with pytest.raises(DataError) as raised:
        read_labeled_texts(source([row, row], "f.jsonl"))
    assert f": jq -c '{{text, {command}}}' " in str(raised.value)


COMMENTS = [f"{i},the meal number {i} was fine,{i % 2},{i % 3 // 2},0" for i in range(20)]


def test_labels_of_0_and_1_next_to_a_text_are_no_series(source):
    data = source(["id,comment_text,toxic,rude,threat", *COMMENTS])
    assert not inspect_shape(data).has_row_of_numbers


@pytest.mark.parametrize("columns", [("comment_text", "rude"), ("2", "4")])
def test_two_named_columns_of_texts_and_labels_are_for_a_classifier(source, columns):
    header = ["id,comment_text,toxic,rude,threat"] * (columns[0] != "2")
    data = source([*header, *COMMENTS])
    assert guess_task(data, columns=columns) == "classification"
    assert guess_task(data, columns=columns[::-1]) != "classification"


def test_pairs_with_few_targets_stay_pairs_by_the_names_of_their_columns(source):
    data = source(["en,de,id", *(f"is meal number {i} fine,ja,{i}" for i in range(20))])
    assert guess_task(data, columns=("en", "de")) == "translation"


@pytest.mark.parametrize(
    ("annotation", "advice"),
    [
        ({"label": 7, "user": 1}, r"jq -c '\{text, label: \.annotations\[0\]\.label\}'"),
        ({"label": 7, "start_offset": 0, "end_offset": 2}, "are for no task here"),
    ],
)
def test_labels_of_annotators_are_not_running_text(source, annotation, advice):
    rows = [json.dumps({"id": n, "text": "a b", "annotations": [annotation]}) for n in range(9)]
    opened = source(rows, "f.jsonl")
    assert guess_task(opened) == "translation"  # whose reader refuses it with what to do
    with pytest.raises(DataError, match=advice):
        read_pairs(opened)


@pytest.mark.parametrize("name", ["f.txt", "f.conll", "f.tsv"])
def test_words_with_tags_are_for_no_task(source, name):
    words = ["EU NNP B-ORG", "rejects VBZ O", "German JJ B-MISC", ""] * 9
    lines = [line.replace(" ", "\t") for line in words] if name == "f.tsv" else words
    with pytest.raises(DataError, match=r"a word and its tag a line \(CoNLL\)"):
        guess_task(source(lines, name))


def test_text_that_ends_with_a_letter_has_no_tags(source):
    assert guess_task(source(["blood group O"] * 9 + ["a plain line of text"] * 9, "f.txt"))


@pytest.mark.slow
def test_a_table_of_names_of_images_is_refused_with_the_command_that_sorts_them(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / f"in/{number}.JPEG").write_bytes(b"")
    rows = "".join(f"in/{number}.JPEG,{'ab'[number % 2]}\n" for number in range(3))
    (tmp_path / "all.csv").write_text(f"file,cats\n{rows}")
    with pytest.raises(DataError, match=r"names of images or recordings \(in/0\.JPEG\)") as caught:
        inspect_shape(open_source("all.csv"))
    command = str(caught.value).partition("Copy them there: ")[2]
    subprocess.run(command, shell=True, check=True)
    files = (tmp_path / "files").rglob("*.JPEG")
    assert sorted(str(file.relative_to(tmp_path / "files")) for file in files) == [
        "a/0.JPEG",
        "a/2.JPEG",
        "b/1.JPEG",
    ]
