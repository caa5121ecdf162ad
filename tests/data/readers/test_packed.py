"""Packed files, and the only file of a ZIP archive, are read as what is in them."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pytest

from regard.data.readers import read_labeled_texts
from regard.data.readers.packed import find_packing
from regard.data.readers.shape import inspect_shape
from regard.data.readers.source import open_source
from regard.errors import DataError

ROWS = b'{"text": "very good", "label": "a"}\n{"text": "bad", "label": "b"}\n'


def zipped(**files):
    """Return an archive of some files, by their names with _ for a point."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(ROWS)),
        ("a.jsonl.bz2", bz2.compress(ROWS)),
        ("a.jsonl.xz", lzma.compress(ROWS)),
        ("a.jsonl.zip", zipped(a_jsonl=ROWS)),
        ("archive.zip", zipped(a_jsonl=ROWS)),
        ("archive.zip", zipped(a_csv="text,label\nvery good,a\nbad,b\n")),
        ("unnamed", bz2.compress(ROWS)),
    ],
    ids=range(7),
)
def test_packed_rows_are_those_of_the_file(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    assert inspect_shape(open_source(path)).columns == {"text": "text", "label": "label"}
    rows, _ = read_labeled_texts(path)
    assert (rows.texts, rows.labels) == (["very good", "bad"], ["a", "b"])


def test_a_zstandard_file_of_several_frames_is_read_whole(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "a.jsonl.zst"
    frame = zstandard.ZstdCompressor().compress(ROWS)
    path.write_bytes(frame + frame)
    assert len(read_labeled_texts(path)[0]) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bz2.compress(ROWS)[:-9], r"cannot be unpacked .*Copy it again"),
        (lzma.compress(ROWS)[:-9], r"cannot be unpacked .*Copy it again"),
        (zipped(a_jsonl=ROWS)[:-30], "a ZIP archive, or a document of Excel or Word, not text"),
        (zipped(**{"data/": ""}), "a ZIP archive without files"),
        (
            zipped(a_csv="", b_csv=""),
            r"of 2 files: a\.csv, b\.csv\.  Unpack it, .*: unzip .* -d files",
        ),
        (zipped(**{"xl/workbook_xml": "", "more_xml": ""}), "an Excel workbook"),
    ],
    ids=range(6),
)
def test_what_cannot_be_unpacked_says_why(content, message, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_labeled_texts(path)


def test_files_that_systems_add_to_an_archive_do_not_count():
    archive = zipped(**{"data/train_csv": "x", "data/_DS": "y"})
    packing = find_packing("a.zip", archive)
    assert packing is not None
    assert packing.inner_name == "data/train.csv"


def test_a_folder_of_jsonl_is_read_with_its_parts_and_each_line_has_its_file(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [json.dumps({"text": f"text {n}", "label": "ab"[n % 2]}) for n in range(6)]
    (folder / "train-0.jsonl").write_text("\n".join(lines[:2]))  # without an end of line
    (folder / "train-1.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[2:4]).encode()))
    (folder / "test-0.jsonl").write_text("\n".join(lines[4:]) + "\n")
    (folder / "dataset_info.json").write_text("{}")
    source = open_source(folder)
    assert source.table is not None
    assert (source.table.notes, source.table.held_out) == (("2 JSONL files of train",), ("test",))
    assert source.table.locate(3) == f"{folder / 'train-1.jsonl.gz'}:1"
    assert read_labeled_texts(source)[0].texts == [f"text {n}" for n in range(4)]
    assert read_labeled_texts(open_source(folder, "test"))[0].texts == ["text 4", "text 5"]
    (folder / "train-0.jsonl").write_text(lines[0] + '\n{"text": 1\n')
    with pytest.raises(DataError, match=r"train-0\.jsonl:2: "):
        read_labeled_texts(open_source(folder))


def test_a_folder_of_jsonl_is_read_in_its_encoding(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "schön", "label": "a"}\n', encoding="latin-1")
    assert read_labeled_texts(tmp_path, encoding="latin-1")[0].texts == ["schön"]
    with pytest.raises(DataError, match=r"a\.jsonl:1: not UTF-8"):
        read_labeled_texts(tmp_path)


def test_a_pattern_of_names_is_refused_with_the_folder_that_is_read(tmp_path):
    for number in range(2):
        (tmp_path / f"part-{number}.csv").write_text("text,label\na b,c\n")
    with pytest.raises(DataError, match=r"no such file\.  One file, or their folder, is read"):
        open_source(tmp_path / "part-*.csv")


def test_an_archive_that_is_cut_short_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 and the rest is missing")
    with pytest.raises(DataError, match=r"a\.zip: cannot be unpacked \(.*\)\.  Copy it again\."):
        open_source(path)
