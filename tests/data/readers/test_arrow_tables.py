"""Parquet and Arrow: the same rows as JSONL, from every writer, and what cannot be read by name."""

import datetime
import gzip
import hashlib
import json
import math
import subprocess
import sys

import pyarrow
import pyarrow.ipc
import pytest
from pyarrow import parquet

from regard.data.readers import source as source_module
from regard.data.readers.audio import read_wav
from regard.data.readers.labeled import read_labeled_texts
from regard.data.readers.media_tables import media_columns, read_media_rows
from regard.data.readers.memory import source_of_rows
from regard.data.readers.questions import inspect_questions, read_questions
from regard.data.readers.series import read_number_rows
from regard.data.readers.series_tables import read_time_series
from regard.data.readers.shape import inspect_shape
from regard.data.readers.source import open_source
from regard.data.readers.table_inspection import inspect_records
from regard.data.readers.tables import parse_pairs, read_pairs
from regard.errors import DataError, ResourceError
from regard.runs.text_check import require_texts
from regard.tasks import guess_task

TEXTS = [
    {"text": "a good film", "label": "good"},
    {"text": 'two\nlines, "quoted"', "label": "bad"},
    {"text": "ein schönes Bild \u2028 \U0001f600", "label": "good"},
]


def write(path, rows, **options):
    table = rows if isinstance(rows, pyarrow.Table) else pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, path, **options)
    return path


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fault(path):
    with pytest.raises(DataError) as error:
        read_labeled_texts(path)
    return str(error.value).replace(str(path), "FILE")


def labeled(path):
    rows, _ = read_labeled_texts(path)
    return list(zip(rows.texts, rows.labels, rows.lines, strict=True))


def label_names(table, names):
    feature = {"names": names, "_type": "ClassLabel"}
    metadata = {"info": {"features": {"text": {"_type": "Value"}, "label": feature}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(metadata)})


def test_rows_of_parquet_are_those_of_jsonl(tmp_path):
    lines = write_lines(tmp_path / "a.jsonl", TEXTS)
    assert labeled(write(tmp_path / "a.parquet", TEXTS)) == labeled(lines)


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip", "none"])
def test_codecs_of_parquet_are_read(tmp_path, codec):
    path = write(tmp_path / "a.parquet", TEXTS, compression=codec, row_group_size=1)
    assert [text for text, _, _ in labeled(path)] == [row["text"] for row in TEXTS]


@pytest.mark.parametrize("open_writer", [pyarrow.ipc.new_file, pyarrow.ipc.new_stream])
def test_files_and_streams_of_arrow_are_read(tmp_path, open_writer):
    table, path = pyarrow.Table.from_pylist(TEXTS), tmp_path / "data-00000-of-00001.arrow"
    with open_writer(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert [text for text, _, _ in labeled(path)] == [row["text"] for row in TEXTS]


def test_a_table_is_known_by_its_bytes_whatever_its_name(tmp_path):
    path = write(tmp_path / "a.csv", TEXTS)
    packed = tmp_path / "b.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert labeled(path) == labeled(packed)


def test_the_hash_of_a_table_is_that_of_its_bytes(tmp_path):
    path = write(tmp_path / "a.parquet", TEXTS)
    assert open_source(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_translations_in_a_struct_are_pairs_by_their_languages(tmp_path):
    rows = [{"id": 1, "translation": {"en": "a cat", "de": "eine Katze"}}]
    path = write(tmp_path / "a.parquet", rows)
    pairs = read_pairs(path)
    assert (pairs.sources, pairs.targets) == (["a cat"], ["eine Katze"])
    assert guess_task(path) == "translation"


def test_answers_in_lists_are_those_of_jsonl(tmp_path):
    rows = [
        {"context": "a b c", "question": "b?", "answers": {"text": ["b"], "answer_start": [2]}},
        {"context": "a b c", "question": "z?", "answers": {"text": [], "answer_start": []}},
    ]
    answers = pyarrow.struct(
        {"text": pyarrow.list_(pyarrow.string()), "answer_start": pyarrow.list_(pyarrow.int32())}
    )
    schema = pyarrow.schema(
        {"context": pyarrow.string(), "question": pyarrow.string(), "answers": answers}
    )
    table = write(tmp_path / "a.parquet", pyarrow.Table.from_pylist(rows, schema=schema))
    lines = write_lines(tmp_path / "a.jsonl", rows)
    read, expected = read_questions(table).questions, read_questions(lines).questions
    assert (read.answers, read.starts) == (expected.answers, expected.starts)
    assert "(Parquet)" in inspect_questions(open_source(table)).text


def test_labels_that_datasets_keeps_as_numbers_get_their_names(tmp_path):
    table = pyarrow.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    path = write(tmp_path / "a.parquet", label_names(table, ["neg", "pos"]))
    assert [label for _, label, _ in labeled(path)] == ["pos", "neg"]  # -1 is no label
    read_as = inspect_records(open_source(path), ("text", "label"), "texts")
    assert read_as.notes == ("Parquet", "names of labels by the file: label")


def test_a_label_without_a_name_is_named_with_its_row(tmp_path):
    table = pyarrow.table({"text": ["a", "b"], "label": [1, 2]})
    path = write(tmp_path / "a.parquet", label_names(table, ["neg", "pos"]))
    assert fault(path) == (
        "FILE:2: column label holds 2, and the file has names of labels for 0 to 1."
    )


def test_dictionaries_large_strings_and_bytes_of_text_are_text(tmp_path):
    table = pyarrow.table(
        {
            "text": pyarrow.array(["a", "b"], pyarrow.large_string()),
            "label": pyarrow.array(["x", "y"]).dictionary_encode(),
        }
    )
    in_bytes = pyarrow.table({"text": [b"a", b"b"], "label": ["x", "y"]})
    first = labeled(write(tmp_path / "a.parquet", table))
    assert (
        first == labeled(write(tmp_path / "b.parquet", in_bytes)) == [("a", "x", 1), ("b", "y", 2)]
    )


@pytest.mark.parametrize(
    "kind",
    [
        *(pyarrow.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        pyarrow.timestamp("us", "UTC"),
        pyarrow.timestamp("ns", "Europe/Berlin"),
    ],
    ids=str,
)
def test_series_with_timestamps_are_those_of_csv(tmp_path, kind):
    start = datetime.datetime(2024, 3, 29)  # the clocks change on the 31st
    times = [start + datetime.timedelta(hours=hour) for hour in range(96)]
    values = [math.sin(hour) for hour in range(96)]
    table = pyarrow.table({"time": pyarrow.array(times, kind), "value": values})
    path = tmp_path / "a.csv"
    rows = (f"{time},{value!r}\n" for time, value in zip(times, values, strict=True))
    path.write_text("time,value\n" + "".join(rows))
    series = read_time_series(write(tmp_path / "a.parquet", table))
    expected = read_time_series(path)
    assert str(series.step) == str(expected.step)
    assert [list(row) for row in series.series.values] == [
        list(row) for row in expected.series.values
    ]


@pytest.mark.parametrize(
    ("index", "names"),
    [
        ([datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)], ("value", "time")),
        (["x", "y"], ("value",)),
    ],
)
def test_an_index_of_pandas_is_a_column_of_times_or_left_out(tmp_path, index, names):
    table = pyarrow.table({"value": [1.0, 2.0], "__index_level_0__": index})
    source = open_source(write(tmp_path / "a.parquet", table))
    assert tuple(json.loads(source.content.split(b"\n")[0])) == names
    assert ("without the index of pandas" in source.table.notes) == (len(names) == 1)


@pytest.mark.parametrize(
    "rows",
    [
        [{"label": "a", "x": 1, "y": 2.5}, {"label": "b", "x": 3, "y": 4}],
        [{"values": [1, 2.5], "label": "a"}, {"values": [3, 4], "label": "b"}],
    ],
)
@pytest.mark.parametrize("write_rows", [write, write_lines])
def test_numbers_next_to_a_label_are_rows_of_numbers(tmp_path, rows, write_rows):
    suffix = "parquet" if write_rows is write else "jsonl"
    path = write_rows(tmp_path / f"a.{suffix}", rows)
    read = [(row.label, list(row.numbers)) for row in read_number_rows(path)]
    assert read == [("a", [1, 2.5]), ("b", [3, 4])]
    assert guess_task(path) == "series-classification"


def test_a_table_of_pyarrow_is_data_in_memory(tmp_path):
    table = label_names(pyarrow.table({"text": ["a", "b"], "label": [1, 0]}), ["neg", "pos"])
    assert (
        source_of_rows(table).content == open_source(write(tmp_path / "a.parquet", table)).content
    )


def test_a_table_on_standard_input_is_kept_as_its_rows(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", TEXTS)
    with path.open("rb") as stream:
        monkeypatch.setattr("sys.stdin", type("Input", (), {"buffer": stream, "closed": False}))
        source = open_source("-")
    assert (source.is_stream, source.suffix) == (True, ".jsonl")
    assert source.sha256 == hashlib.sha256(source.content).hexdigest()
    assert source.content == open_source(path).content


def test_rows_with_other_values_than_texts_are_named(tmp_path):
    path = write(tmp_path / "a.parquet", [{"text": [["a"]], "label": "x"}])
    assert '"text" is not a text.' in fault(path)


def test_columns_that_are_missing_are_named_with_those_seen(tmp_path):
    path = write(tmp_path / "a.parquet", [{"sentence": {"en": "a"}, "n": 1}])
    message = fault(path)
    assert message.startswith('FILE:1: no column "label".  Columns seen: sentence, n.')
    assert "| jq -c '{text: .PATH, label: .PATH}' > fixed.jsonl" in message


@pytest.mark.slow
def test_the_command_that_prints_rows_prints_them(tmp_path):
    path = write(tmp_path / "a.parquet", TEXTS)
    command = open_source(path).table.print_command(str(path))
    command = command.replace("python ", f"{sys.executable} ", 1)
    printed = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    assert list(map(json.loads, printed.splitlines())) == TEXTS


@pytest.mark.slow
def test_a_recording_of_another_format_is_named_with_the_command_that_writes_all(
    tmp_path, monkeypatch
):
    flac = b"fLaC\xff"
    rows = [{"audio": {"bytes": flac, "path": "a.flac"}, "label": label} for label in (0, 1)]
    source = open_source(write(tmp_path / "a.parquet", rows))
    assert inspect_shape(source).kind == "recordings"
    monkeypatch.chdir(tmp_path)
    row = next(read_media_rows(source, media_columns(source)))
    with pytest.raises(DataError, match=r"a\.parquet:1: column audio: not a WAV file") as error:
        read_wav(row.file)
    command = str(error.value).partition("and convert those: ")[2]
    monkeypatch.chdir(tmp_path)
    command = command.replace("python ", f"{sys.executable} ", 1)
    subprocess.run(command, shell=True, check=True)
    assert (tmp_path / "files/1/1.flac").read_bytes() == flac


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "FILE: the file is empty.  Expected Parquet."),
        (
            b"text,label\na,b\nc,d\n",
            'FILE: text, not Parquet.  "text,label"  Name it for what it is: mv',
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "FILE: a pointer of Git LFS, not the data.",
        ),
        (b"\0\1\2\3", "FILE: not Parquet by its first bytes.  Damaged?  Copy it again."),
        (b"PAR1\0\0", "FILE: the Parquet file has no end.  Cut short?  Copy it again."),
        (b"PAR1\0\0PAR1", "FILE: Parquet that cannot be read (Parquet file size is 10 bytes"),
        (b"PARE\0\0PARE", "FILE: an encrypted Parquet file.  Write it without encryption."),
    ],
)
def test_other_files_that_are_named_parquet_are_named_for_what_they_are(tmp_path, content, message):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    assert fault(path).startswith(message)


def test_a_pointer_of_git_lfs_is_named_in_any_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n")
    assert "a pointer of Git LFS" in fault(path)


def test_damaged_pages_are_named(tmp_path):
    path = write(tmp_path / "a.parquet", TEXTS * 20, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    assert fault(path).startswith("FILE: Parquet that cannot be read (")


def test_a_stream_of_arrow_that_is_cut_is_named(tmp_path):
    table, path = pyarrow.Table.from_pylist(TEXTS), tmp_path / "a.arrow"
    with pyarrow.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(path.read_bytes()[:-40])
    assert fault(path).startswith("FILE: Arrow stream that cannot be read (")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pyarrow.table({}), "FILE: a table without columns."),
        (
            pyarrow.table({"text": [], "label": []}),
            "FILE: there are no rows.  Columns seen: text, label.",
        ),
        (
            pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, ["text", "text"]),
            'FILE: two columns have the name "text".  Rename one of them.',
        ),
    ],
)
def test_tables_that_hold_nothing_usable_are_named(tmp_path, table, message):
    assert fault(write(tmp_path / "a.parquet", table)) == message


def test_infinite_numbers_are_refused_where_they_are_read(tmp_path):
    columns = {"time": range(12), "value": [*range(11), math.inf], "unused": [-math.inf] * 12}
    path = write(tmp_path / "a.parquet", pyarrow.table(columns))
    with pytest.raises(DataError, match=r"a.parquet:12: column value is too large, or not finite"):
        read_time_series(path, columns=("time", "value"))


def test_a_text_that_is_not_utf_8_is_named_with_its_row(tmp_path):
    offsets = pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0")
    texts = pyarrow.StringArray.from_buffers(2, offsets, pyarrow.py_buffer(b"ab\xff\xfe"))
    path = write(tmp_path / "a.parquet", pyarrow.table({"text": texts, "label": ["a", "b"]}))
    assert fault(path) == "FILE:2: column text is not UTF-8.  Write the table again."


def test_a_missing_package_is_named_with_the_command(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", TEXTS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert fault(path) == (
        "FILE: Parquet is read by pyarrow, which is not installed.  "
        "Install it: pip install 'regard[parquet]'"
    )


def test_rows_that_are_larger_than_the_memory_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", [{"text": "a" * 1000, "label": "b"}] * 1000)
    monkeypatch.setattr(source_module, "free_memory_bytes", lambda: 1_000_000)
    with pytest.raises(ResourceError, match=r"as JSON: more than 0.2 GB|as JSON: more than 0.0 GB"):
        open_source(path)


def test_a_table_is_not_lines_of_text(tmp_path):
    path = write(tmp_path / "a.parquet", TEXTS)
    with pytest.raises(DataError, match="not one text a line"):
        require_texts(str(path))
    with pytest.raises(DataError, match="not one text a line"):
        parse_pairs(path, targets=path)
