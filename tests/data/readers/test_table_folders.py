"""Folders of tables: which files are read, their parts, and what is refused."""

import pyarrow
import pyarrow.ipc
import pytest
from pyarrow import parquet

from regard.data.readers.labeled import read_labeled_texts
from regard.data.readers.source import open_source
from regard.data.readers.tables import read_pairs
from regard.errors import ConfigError, DataError
from regard.setup.config import DataConfig
from regard.setup.inspect import open_sources


def write(path, *texts, column="text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({column: list(texts), "label": ["a"] * len(texts)})
    if path.suffix == ".arrow":
        with pyarrow.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        parquet.write_table(table, path)


def texts(source):
    return read_labeled_texts(source)[0].texts


def fault(path, part="train"):
    with pytest.raises(DataError) as error:
        open_source(path, part)
    return str(error.value).replace(str(path), "FOLDER")


@pytest.fixture
def hub(tmp_path):
    """A folder as that of a data set on the hub of Hugging Face."""
    write(tmp_path / "data/train-00000-of-00002.parquet", "one")
    write(tmp_path / "data/train-00001-of-00002.parquet", "two")
    write(tmp_path / "data/validation-00000-of-00001.parquet", "three")
    write(tmp_path / "data/test-00000-of-00001.parquet", "four")
    (tmp_path / "README.md").write_text("a card")
    return tmp_path


def test_part_files_of_a_folder_are_one_table(tmp_path):
    write(tmp_path / "part-00000-3f.snappy.parquet", "one")
    write(tmp_path / "part-00001-3f.snappy.parquet", "two")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part-00000.crc").touch()
    source = open_source(tmp_path)
    assert texts(source) == ["one", "two"]
    assert source.table.notes == ("2 Parquet files",)


def test_a_folder_has_its_parts_by_the_names_of_files(hub):
    parts = [texts(open_source(hub, part)) for part in ("train", "valid", "test")]
    assert parts == [["one", "two"], ["three"], ["four"]]
    assert open_source(hub).table.notes == ("2 Parquet files of train",)


def test_a_folder_has_its_parts_by_the_names_of_folders(tmp_path):
    for part in ("train", "test"):
        write(tmp_path / part / "data-00000-of-00001.arrow", part)
        write(tmp_path / part / "cache-0123456789abcdef.arrow", "not this")
    assert texts(open_source(tmp_path, "test")) == ["test"]
    assert texts(open_source(tmp_path)) == ["train"]


def test_held_out_parts_of_a_folder_are_taken_unless_others_are_named(hub):
    sources = open_sources(DataConfig(path=str(hub)))
    assert {name: texts(source) for name, source in sources.items()} == {
        "path": ["one", "two"],
        "valid": ["three"],
        "test": ["four"],
    }
    named = open_sources(DataConfig(path=str(hub), valid="10%"))
    assert set(named) == {"path", "test"}


def test_one_of_several_files_says_so(hub):
    source = open_source(hub / "data/train-00001-of-00002.parquet")
    assert source.table.notes == (f"Parquet, file 2 of 2; all are in {hub}/data",)


def test_a_row_that_cannot_be_read_is_named_by_its_file(tmp_path):
    write(tmp_path / "a.parquet", "one", "two")
    table = pyarrow.table({"text": ["three", "four"], "label": [[["a"]], [["b"]]]})
    parquet.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(DataError, match=rf'{tmp_path}/b.parquet:1: "label" is not a text'):
        texts(open_source(tmp_path))


def test_the_hash_of_a_folder_follows_its_files(hub):
    before = open_source(hub).sha256
    assert before == open_source(hub).sha256
    write(hub / "data/train-00001-of-00002.parquet", "changed")
    assert open_source(hub).sha256 != before


def test_tables_that_belong_to_no_part_are_named(hub):
    write(hub / "data/unsupervised-00000-of-00001.parquet", "five")
    (hub / "more.csv").write_text("text,label\n")
    assert open_source(hub).table.notes[1] == (
        "not read: data/unsupervised-00000-of-00001.parquet, more.csv"
    )


def test_a_part_that_a_folder_lacks_is_named_with_those_seen(tmp_path):
    write(tmp_path / "train.parquet", "one")
    write(tmp_path / "test.parquet", "two")
    assert fault(tmp_path, "valid") == (
        "FOLDER: has no part named valid.  Parts seen: test, train.  Name a file."
    )


def test_files_with_other_columns_are_named(tmp_path):
    write(tmp_path / "a.parquet", "one")
    write(tmp_path / "b.parquet", "two", column="body")
    assert fault(tmp_path) == (
        "FOLDER/b.parquet: columns body, label; those of FOLDER/a.parquet are text, label."
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["en/a.parquet", "de/a.parquet"], "FOLDER: tables are in several folders: de, en."),
        (["lang=en/a.parquet"], "FOLDER: has a column in the names of folders: lang=en."),
        (["_delta_log/0.json", "a.parquet"], "FOLDER: a table of Delta Lake, whose log says which"),
    ],
)
def test_folders_whose_names_say_more_are_refused(tmp_path, names, message):
    for name in names:
        write(tmp_path / name, "one")
    assert fault(tmp_path).startswith(message)


def test_a_folder_of_images_with_a_table_about_them_is_one_of_images(tmp_path):
    write(tmp_path / "metadata.parquet", "one")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").touch()
    assert open_source(tmp_path).is_folder


def test_an_encoding_is_refused_for_tables_alone(hub, tmp_path_factory):
    with pytest.raises(ConfigError, match="tables have their own"):
        open_sources(DataConfig(path=str(hub), encoding="latin1"))
    path = tmp_path_factory.mktemp("other") / "a.tsv"
    path.write_text("a\tb\n")
    data = DataConfig(path=str(path), test=str(hub), encoding="latin1")
    assert texts(open_sources(data)["test"]) == ["four"]


def test_files_of_csv_are_one_table_with_one_header(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,x\n")
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbftext,label\r\ntwo,y\r\nthree,x")
    source = open_source(tmp_path)
    rows, dropped = read_labeled_texts(source)
    assert (rows.texts, rows.labels, dropped) == (["one", "two", "three"], ["x", "y", "x"], [])
    assert source.table.notes == ("2 CSV files",)


def test_a_row_of_the_second_file_of_csv_is_named_with_its_own_line(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,x\n")
    (tmp_path / "b.csv").write_text("text,label\ntwo,y\nthree\n")
    with pytest.raises(DataError, match=r"b\.csv:3: one column, two expected"):
        read_labeled_texts(open_source(tmp_path))


def test_files_of_csv_with_another_header_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,x\n")
    (tmp_path / "b.csv").write_text("label,text\ny,two\n")
    assert fault(tmp_path).startswith(
        'FOLDER/b.csv: the first row is "label,text", and that of FOLDER/a.csv "text,label".'
    )


def test_files_of_tsv_without_a_header_are_joined(tmp_path):
    for name, text in (("a", "one cat\teine Katze"), ("b", "two cats\tzwei Katzen")):
        (tmp_path / f"{name}.tsv").write_text(f"{text}\n" * 2)
    pairs = read_pairs(open_source(tmp_path))
    assert pairs.sources == ["one cat"] * 2 + ["two cats"] * 2


def test_a_file_of_utf_16_in_a_folder_of_csv_is_refused_with_its_conversion(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,x\n", encoding="utf-16")
    assert "Convert: iconv -f utf-16 -t utf-8 FOLDER/a.csv" in fault(tmp_path)


def test_a_model_within_the_folder_of_its_data_is_not_data(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,x\n")
    for name in ("config.toml", "manifest.json", "metrics.jsonl"):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text("{}")
    assert texts(open_source(tmp_path)) == ["one"]
