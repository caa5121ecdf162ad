"""Folders with one folder a label."""

import os

import pytest

from regard.data.readers.labeled_folders import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    describe_unread,
    files_within,
    labeled_files,
    official_parts,
    part_folders,
    read_each,
)
from regard.data.readers.problems import list_problems
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
        "Seen: no/c.wav, no/notes.txt, yes/a.WAV and 1 more.  Kinds of files: 3 .wav, 1 .txt."
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


def make_files(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def parts_and_labels(root):
    return {(file.part, file.label) for file in labeled_files(root, IMAGE_SUFFIXES)}


def test_one_folder_around_the_labels_is_named(words):
    with pytest.raises(DataError) as caught:
        labeled_files(words.parent, AUDIO_SUFFIXES)
    assert str(caught.value).endswith(f"  Name the folder of the labels: {words}")


def test_folders_for_training_validation_and_test_are_parts(tmp_path):
    make_files(tmp_path, "Train/a/1.png", "Train/b/2.png", "val/a/3.png", "test/b/4.png")
    assert parts_and_labels(tmp_path) == {
        ("train", "a"),
        ("train", "b"),
        ("valid", "a"),
        ("test", "b"),
    }


@pytest.mark.parametrize("files", [("test/5.png",), ("test/5.png", "test/a/6.png")])
def test_files_without_a_label_in_test_do_not_make_labels_of_the_parts(tmp_path, files):
    make_files(tmp_path, "train/a/1.png", "train/b/2.png", *files)
    assert {label for _, label in parts_and_labels(tmp_path)} == {"a", "b"}
    assert describe_unread(tmp_path, IMAGE_SUFFIXES, "images") == [
        "Files that are not read: 1 .png outside the folders of labels."
    ]


def test_an_empty_folder_next_to_the_parts_is_named(tmp_path):
    make_files(tmp_path, "train/a/1.png", "train/b/2.png", "validation/a/3.png", "LICENSE")
    (tmp_path / "empty").mkdir()
    assert parts_and_labels(tmp_path) == {("train", "a"), ("train", "b"), ("valid", "a")}
    assert describe_unread(tmp_path, IMAGE_SUFFIXES, "images") == [
        "No images in the folder empty: not a label."
    ]


def test_a_label_may_be_named_like_a_part(tmp_path):
    make_files(tmp_path, "train/1.png", "bus/2.png", "train/night/3.png")
    assert part_folders(open_source(tmp_path), IMAGE_SUFFIXES) == {}
    assert parts_and_labels(tmp_path) == {("train", "train"), ("train", "bus")}


def test_parts_next_to_another_folder_are_refused(tmp_path):
    make_files(tmp_path, "train/a/1.png", "test/a/2.png", "unlabeled/3.png")
    with pytest.raises(DataError) as caught:
        labeled_files(tmp_path, IMAGE_SUFFIXES)
    assert str(caught.value) == (
        f"{tmp_path}: the folders test, train are parts of the data, unlabeled is not.  Move it to "
        f"another folder, or name the parts: {tmp_path}/train with `data.valid=FOLDER`, "
        "`data.test=FOLDER`"
    )


def test_parts_whose_training_files_have_no_label_are_refused(tmp_path):
    make_files(tmp_path, "train/cat.1.png", "test/1.png")
    with pytest.raises(DataError, match=r"are parts of the data, not labels\.  Expected "):
        labeled_files(tmp_path, IMAGE_SUFFIXES)


def test_files_that_are_not_read_are_counted_by_kind(words):
    make_files(words, "yes/x.mp3", "no/y.mp3", "z.flac", "README.md", "yes/Thumbs.db")
    (words / "maybe").mkdir()
    assert describe_unread(words, AUDIO_SUFFIXES, "recordings") == [
        "Files that are not read: 2 .mp3, 1 .txt, 1 .flac outside the folders of labels.",
        "No recordings in the folder maybe: not a label.",
    ]


def _read(path):
    if path.suffix == ".WAV":
        return path.name
    raise DataError(f"{path.name}: broken.")


def test_all_files_that_cannot_be_read_are_named(words):
    paths = [words / name for name in ("yes/a.WAV", "yes/b.wav", "no/c.wav", "_noise_/d.wav")]
    assert read_each(paths[:1], _read, 1) == ["a.WAV"]
    with pytest.raises(DataError, match=r"^b\.wav: broken\.$"):
        read_each(paths[:2], _read, 2)
    with pytest.raises(DataError) as caught:
        read_each(paths, _read, len(paths))
    assert str(caught.value) == (
        f"b.wav: broken.  3 of 4 files cannot be read: {paths[1]}, {paths[2]}, {paths[3]}."
    )
    assert [problem.path for problem in caught.value.problems] == [str(p) for p in paths[1:]]
    with pytest.raises(DataError, match=r" and 3 more\.$"):
        read_each([*paths, paths[1], paths[2], paths[3]], _read, 7)


def test_lists_of_held_out_files_are_read(words):
    assert official_parts(words) == {}
    (words / "testing_list.txt").write_text("yes/b.wav\nno/c.wav\n")
    assert official_parts(words) == {"test": {"yes/b.wav", "no/c.wav"}}


def test_a_list_of_held_out_files_that_cannot_be_read_is_named(words):
    (words / "testing_list.txt").write_bytes(b"yes/b.wav\r\nno/c.wav\r\n")
    assert official_parts(words) == {"test": {"yes/b.wav", "no/c.wav"}}
    (words / "validation_list.txt").write_bytes(b"yes/b.wav\nno/\xe9.wav\n")
    with pytest.raises(DataError, match=r"validation_list.txt:2: not UTF-8 at byte 4 \(0xE9\)"):
        official_parts(words)


def test_names_that_are_not_unicode_are_hashed(words):
    first = open_source(words).sha256
    name = os.fsdecode(b"\xe9.wav")
    (words / "no" / name).write_text("d")
    assert (words / "no" / name) in open_source(words).files
    assert open_source(words).sha256 != first


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


def test_broken_files_of_one_kind_share_a_line(words):
    paths = [words / f"yes/{number}.wav" for number in range(5)]

    def read(path):
        raise DataError(f"{path}: broken.  Convert it: ffmpeg -i {path} fixed.wav")

    with pytest.raises(DataError) as caught:
        read_each(paths, read, len(paths))
    assert list_problems(caught.value.problems) == [
        f"{paths[0]}: broken.  Convert it: ffmpeg -i {paths[0]} fixed.wav  "
        f"5 files like this: {paths[0]}, {paths[1]}, {paths[2]} and 2 more."
    ]
