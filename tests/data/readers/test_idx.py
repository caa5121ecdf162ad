"""MNIST's idx files."""

import gzip
import struct

import numpy as np
import pytest

from regard.data.readers.idx import find_idx, read_idx, read_idx_part
from regard.errors import DataError


def write_idx(path, values):
    values = np.asarray(values, np.uint8)
    head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    content = head + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


IMAGES = np.arange(24).reshape(4, 2, 3)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_and_labels_are_read(tmp_path, suffix):
    write_idx(tmp_path / f"train-images-idx3-ubyte{suffix}", IMAGES)
    write_idx(tmp_path / f"train-labels-idx1-ubyte{suffix}", [7, 1, 0, 7])
    parts = find_idx(tmp_path)
    assert list(parts) == ["train"]
    images, labels = read_idx_part(parts["train"])
    assert images.tolist() == IMAGES.tolist()
    assert labels == ["7", "1", "0", "7"]


def test_the_test_part_is_that_of_ten_thousand(tmp_path):
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", IMAGES)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", [1, 2, 1, 2])
    assert find_idx(tmp_path)["test"].images.name == "t10k-images-idx3-ubyte"


def test_other_folders_have_no_parts(tmp_path):
    (tmp_path / "train-images.png").write_text("")
    assert find_idx(tmp_path) == {}


def test_images_without_as_many_labels_are_refused(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", IMAGES)
    labels = write_idx(tmp_path / "train-labels-idx1-ubyte", [1, 2])
    with pytest.raises(DataError) as caught:
        read_idx_part(find_idx(tmp_path)["train"])
    images = tmp_path / "train-images-idx3-ubyte"
    assert str(caught.value) == f"{labels}: 2 labels, but {images} has 4 images.  Copy both again."


def test_a_file_of_another_form_is_refused(tmp_path):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(b"\x89PNG and more")
    with pytest.raises(DataError) as caught:
        read_idx(path, num_axes=3)
    assert str(caught.value) == (
        f"{path}: no idx file of unsigned bytes with 3 axes (it begins with 89 50 4e 47).  "
        "Copy it again."
    )


def test_a_file_cut_short_is_refused(tmp_path):
    path = write_idx(tmp_path / "x-idx3-ubyte", IMAGES)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError) as caught:
        read_idx(path, num_axes=3)
    assert str(caught.value) == (
        f"{path}: 23 numbers, its header says 24.  File cut short?  Copy it again."
    )


def test_a_damaged_archive_and_a_missing_file_are_refused(tmp_path):
    path = tmp_path / "x-idx3-ubyte.gz"
    with pytest.raises(DataError, match="no such file"):
        read_idx(path, num_axes=3)
    path.write_bytes(gzip.compress(b"an archive")[:-2])
    with pytest.raises(DataError, match=r"cannot be unpacked \(Compressed file ended"):
        read_idx(path, num_axes=3)


def test_a_header_that_claims_more_than_memory_is_refused(tmp_path):
    path = write_idx(tmp_path / "x-idx3-ubyte", IMAGES)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 12 + content[16:])
    with pytest.raises(DataError, match=r"24 numbers, its header says 79,228,162,"):
        read_idx(path, num_axes=3)
