"""Folders of texts in folders named for their labels."""

from __future__ import annotations

import pytest

from regard.data.readers.labeled import read_labeled_texts
from regard.data.readers.source import open_source
from regard.errors import DataError
from regard.setup.config import DataConfig
from regard.setup.inspect import open_sources
from regard.tasks import guess_task


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a text\nof {name}\n", encoding="utf-8")
    return root


def test_a_text_has_the_name_of_its_folder_as_its_label(tmp_path):
    source = open_source(write(tmp_path, "neg/1.txt", "pos/0.txt", "README.md"))
    rows, dropped = read_labeled_texts(source)
    assert rows.texts == ["a text\nof neg/1.txt", "a text\nof pos/0.txt"]
    assert (rows.labels, dropped) == (["neg", "pos"], [])
    assert guess_task(source) == "classification"


def test_folders_of_parts_are_the_parts_and_what_has_no_label_is_said(tmp_path):
    names = ("train/neg/1.txt", "train/pos/0.txt", "test/neg/2.txt")
    write(tmp_path, *names, "train/unsup/3.txt", "train/urls.txt")
    sources = open_sources(DataConfig(path=str(tmp_path)))
    assert {name: read_labeled_texts(source)[0].labels for name, source in sources.items()} == {
        "path": ["neg", "pos"],
        "test": ["neg"],
    }
    assert sources["path"].table.notes == (
        "2 text files of train, the label of each its folder",
        "not read: train/unsup/3.txt, train/urls.txt",
    )
    with pytest.raises(DataError, match="has no part named valid"):
        open_source(tmp_path, "valid")


def test_a_text_that_is_not_utf_8_is_named(tmp_path):
    write(tmp_path, "neg/1.txt", "pos/0.txt")
    (tmp_path / "pos/0.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"pos/0\.txt: not UTF-8 at byte 4 \(0xE9\)"):
        open_source(tmp_path)


def test_a_change_of_a_text_or_of_a_label_changes_the_hash(tmp_path):
    hashes = {open_source(write(tmp_path, "neg/1.txt", "pos/0.txt")).sha256}
    (tmp_path / "pos/0.txt").write_text("other")
    hashes.add(open_source(tmp_path).sha256)
    (tmp_path / "pos/0.txt").rename(tmp_path / "neg/0.txt")
    write(tmp_path, "mid/2.txt")
    hashes.add(open_source(tmp_path).sha256)
    assert len(hashes) == 3
