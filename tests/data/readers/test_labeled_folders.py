"""Folders with one folder a label."""

import pytest

from regard.data.readers.labeled_folders import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    files_within,
    labeled_files,
    official_parts,
    read_each,
)
from regard.data.readers.source import open_source
from regard.errors import DataError


@pytest.fixture
def words(tmp_path):
    for name in ("yes/b.wav", "yes/a.WAV", "no/c.wav", "no/notes.txt", "_noise_/d.wav"):
        path = tmp_path / "words" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "words"


def test_files_are_listed_with_the_names_of_their_folders(words):
    found = [(file.path.name, file.label) for file in labeled_files(words, AUDIO_SUFFIXES)]
    assert found == [("c.wav", "no"), ("a.WAV", "yes"), ("b.wav", "yes")]


def test_a_folder_without_such_files_is_refused_with_its_files(words):
    with pytest.raises(DataError) as caught:
        labeled_files(words, IMAGE_SUFFIXES)
    assert str(caught.value) == (
        f"{words}: no .png file or the like in folders named for their labels.  "
        f"Expected {words}/LABEL/FILE.png.  "
        "Seen: no/c.wav, no/notes.txt, yes/a.WAV and 1 more."
    )


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"The folder is empty\.$"):
        labeled_files(tmp_path, AUDIO_SUFFIXES)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        labeled_files(tmp_path / "none", AUDIO_SUFFIXES)
    assert str(caught.value) == f"{tmp_path / 'none'}: no such file."


def test_a_file_instead_of_a_folder_is_refused(words):
    with pytest.raises(DataError) as caught:
        labeled_files(words / "yes/b.wav", AUDIO_SUFFIXES)
    assert str(caught.value) == (
        f"{words / 'yes/b.wav'}: a file, not a folder.  Name one that has a folder for every label."
    )


def test_files_of_all_depths_are_found(words):
    assert [path.name for path in files_within(words, {".txt"})] == ["notes.txt"]
    with pytest.raises(DataError, match=r"no file that ends in \.flac\.$"):
        files_within(words, {".flac"})


@pytest.fixture
def deep(words):
    for name in (
        "yes/more/e.wav",
        "yes/_DSC1.wav",
        "yes/.cache/f.wav",
        "yes/._b.wav",
        ".git/g.wav",
    ):
        path = words / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return words


def test_folders_within_a_label_count_and_hidden_files_do_not(deep):
    found = {file.path.name: file.label for file in labeled_files(deep, AUDIO_SUFFIXES)}
    assert found == dict.fromkeys(("a.WAV", "b.wav", "e.wav", "_DSC1.wav"), "yes") | {"c.wav": "no"}


def test_classifying_a_folder_passes_over_what_training_does(deep):
    names = sorted(path.name for path in files_within(deep, AUDIO_SUFFIXES))
    assert names == ["_DSC1.wav", "a.WAV", "b.wav", "c.wav", "e.wav"]


def test_parts_are_not_taken_for_labels(words):
    with pytest.raises(DataError, match=r"Expected .*/LABEL/FILE\.wav\.  Seen: "):
        labeled_files(words.parent, AUDIO_SUFFIXES)


def _read(path):
    if path.suffix == ".WAV":
        return path.name
    raise DataError(f"{path.name}: broken.")


def test_all_files_that_cannot_be_read_are_named(words):
    paths = [words / name for name in ("yes/a.WAV", "yes/b.wav", "no/c.wav", "_noise_/d.wav")]
    assert read_each(paths[:1], _read) == ["a.WAV"]
    with pytest.raises(DataError, match=r"^b\.wav: broken\.$"):
        read_each(paths[:2], _read)
    with pytest.raises(DataError) as caught:
        read_each(paths, _read)
    assert str(caught.value) == f"b.wav: broken.  The same for {paths[2]}, {paths[3]}."
    with pytest.raises(DataError, match=r" and 2 more\.$"):
        read_each([*paths, paths[1], paths[2], paths[3]], _read)


def test_lists_of_held_out_files_are_read(words):
    assert official_parts(words) == {}
    (words / "testing_list.txt").write_text("yes/b.wav\nno/c.wav\n")
    assert official_parts(words) == {"test": {"yes/b.wav", "no/c.wav"}}


def test_the_hash_changes_with_names_and_contents_of_data_files_only(words):
    first = open_source(words).sha256
    (words / "no/notes.txt").write_text("changed")
    assert open_source(words).sha256 == first
    (words / "no/c.wav").rename(words / "no/e.wav")
    second = open_source(words).sha256
    (words / "no/e.wav").write_text("changed")
    assert len({first, second, open_source(words).sha256}) == 3


def test_links_in_a_circle_end_and_each_file_counts_once(words):
    (words / "yes" / "itself").symlink_to(".")
    (words / "yes" / "again").symlink_to(".")
    (words / "no" / "all").symlink_to("..")
    assert len(labeled_files(words, AUDIO_SUFFIXES)) == 3
    assert len(files_within(words, AUDIO_SUFFIXES)) == 3
