"""Images and recordings within tables: the files that are written of them."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from regard.data.readers import write_media
from regard.data.readers.labeled_folders import IMAGE_SUFFIXES, labeled_files
from regard.errors import DataError
from regard.tasks import guess_task

PNG, JPEG, WEBP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP"


def write(path, contents, labels, label="label", names=("cat", "dog/wolf")):
    """Write a table as `datasets` does: images in objects, labels as numbers with their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": content, "path": "a.png"} for content in contents]
    features = {label: {"_type": "ClassLabel", "names": names}, "image": {"_type": "Image"}}
    table = pyarrow.table({"image": images, label: labels})
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    parquet.write_table(table.replace_schema_metadata(metadata), path)
    return path


def test_images_are_files_in_folders_with_the_names_of_their_labels(tmp_path):
    path = write(tmp_path / "a.parquet", [PNG, JPEG, WEBP, PNG], [0, 1, 0, -1], "fine_label")
    files = tmp_path / "files"
    assert write_media(path, files) == 3  # the last one has no label
    assert (files / "cat/0.png").read_bytes() == PNG
    assert (files / "dog-wolf/1.jpg").read_bytes() == JPEG
    assert (files / "cat/2.webp").read_bytes() == WEBP
    assert guess_task(files) == "image-classification"
    with pytest.raises(DataError, match="is there already"):
        write_media(path, files)


def test_parts_of_a_folder_are_parts_of_the_files(tmp_path):
    for part in ("train", "test"):
        write(tmp_path / f"data/{part}-00000-of-00001.parquet", [PNG, JPEG], [0, 1])
    assert write_media(tmp_path / "data", tmp_path / "files") == 4
    files = labeled_files(tmp_path / "files", IMAGE_SUFFIXES)
    assert sorted((file.part, file.label) for file in files) == [
        ("test", "cat"),
        ("test", "dog-wolf"),
        ("train", "cat"),
        ("train", "dog-wolf"),
    ]


@pytest.mark.parametrize(
    ("contents", "label", "cause"),
    [
        ([b"text", b"more"], "label", "no column holds the bytes of images or recordings"),
        ([PNG, None], "label", r"a\.parquet:2: column image: no bytes"),
        ([PNG, PNG], "kind of", "no column of labels"),
    ],
)
def test_a_table_without_bytes_or_labels_is_refused(tmp_path, contents, label, cause):
    path = tmp_path / "a.parquet"
    rows = [{"image": {"bytes": content, "path": "a"}, label: "x"} for content in contents]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with pytest.raises(DataError, match=cause):
        write_media(path, tmp_path / "files")
