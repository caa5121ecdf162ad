"""Folders with one folder a label."""

import pytest

from regard.data.input_files import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    count_suffixes,
    data_files_hash,
    files_within,
    labelled_files,
    official_parts,
)
from regard.errors import DataError


@pytest.fixture
def words(tmp_path):
    for name in ("yes/b.wav", "yes/a.WAV", "no/c.wav", "no/notes.txt", "_noise_/d.wav"):
        path = tmp_path / "words" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "words"


def test_files_are_listed_with_the_names_of_their_folders(words):
    found = [(file.path.name, file.label) for file in labelled_files(words, AUDIO_SUFFIXES)]
    assert found == [("c.wav", "no"), ("a.WAV", "yes"), ("b.wav", "yes")]


def test_suffixes_are_counted_in_lower_case(words):
    assert count_suffixes(words) == {".wav": 3, ".txt": 1}


def test_a_folder_without_such_files_tells_what_it_holds(words):
    with pytest.raises(DataError) as caught:
        labelled_files(words, IMAGE_SUFFIXES)
    assert str(caught.value) == (
        f"{words}: no .png file or the like in folders named for their labels.  "
        f"Expected {words}/LABEL/FILE.png.  "
        "Seen: _noise_/d.wav, no/c.wav, no/notes.txt and 2 more."
    )


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"The folder is empty\.$"):
        labelled_files(tmp_path, AUDIO_SUFFIXES)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(DataError) as caught:
        labelled_files(tmp_path / "none", AUDIO_SUFFIXES)
    assert str(caught.value) == f"{tmp_path / 'none'}: no such folder."


def test_a_file_instead_of_a_folder_is_told(words):
    with pytest.raises(DataError) as caught:
        labelled_files(words / "yes/b.wav", AUDIO_SUFFIXES)
    assert str(caught.value) == f"{words / 'yes/b.wav'}: cannot be read (Not a directory)."


def test_files_of_all_depths_are_found(words):
    assert [path.name for path in files_within(words, {".txt"})] == ["notes.txt"]
    with pytest.raises(DataError, match=r"no file that ends in \.flac\.$"):
        files_within(words, {".flac"})


def test_lists_of_held_out_files_are_read(words):
    assert official_parts(words) == {}
    (words / "testing_list.txt").write_text("yes/b.wav\nno/c.wav\n")
    assert official_parts(words) == {"test": {"yes/b.wav", "no/c.wav"}}


def test_the_hash_changes_with_names_and_contents_of_data_files_only(words):
    first = data_files_hash(words)
    (words / "no/notes.txt").write_text("changed")
    assert data_files_hash(words) == first
    (words / "no/c.wav").rename(words / "no/e.wav")
    second = data_files_hash(words)
    (words / "no/e.wav").write_text("changed")
    assert len({first, second, data_files_hash(words)}) == 3
