"""Images and recordings that are read from tables as from folders of files."""

import hashlib
import io
import json
import wave

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from regard.data.readers import source as source_module
from regard.data.readers import write_media
from regard.data.readers.media_tables import media_columns, read_media_rows
from regard.data.readers.source import DataSource, file_hash, open_source
from regard.errors import DataError
from regard.runs.run import train
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions
from regard.tasks import guess_task
from regard.tasks.classification.input_data import read_input_classification_data
from regard.tasks.classification.modalities.images import Images
from regard.tasks.classification.modalities.recordings import Recordings

NAMES = ("cat", "dog")


def png(number, size=8):
    """Return the bytes of an image of one colour."""
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.new("RGB", (size, size), (10 * number, 200 - 9 * number, 77)).save(file, "PNG")
    return file.getvalue()


def wav(number):
    """Return the bytes of a short recording of noise."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        rng = np.random.default_rng(number)
        writer.writeframes(rng.integers(-999, 999, 800, np.int16).tobytes())
    return file.getvalue()


def write(path, contents, labels=None, *, media="image", named=("label",), **columns):
    """Write a table as `datasets` does: files in objects, labels as numbers with their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [number % 2 for number in range(len(contents))] if labels is None else labels
    cells = [{"bytes": content, "path": "a"} for content in contents]
    table = pyarrow.table({media: cells, **dict.fromkeys(named, labels), **columns})
    features = {name: {"_type": "ClassLabel", "names": NAMES} for name in named}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=3)
    return path


def dataset(path, modality, **data):
    options = ReadOptions(data=DataConfig(path=str(path), **data), seed=0)
    return read_input_classification_data(options, modality)


def values_of(data):
    parts = (data.train, data.valid, data.test)
    rows = [
        (label, value)
        for part in parts
        for label, value in zip(part.labels, part.values, strict=True)
    ]
    return sorted((label, value.tobytes()) for label, value in rows)


@pytest.mark.parametrize(
    ("modality", "content", "media"), [(Images(), png, "image"), (Recordings(), wav, "audio")]
)
def test_a_table_holds_what_its_files_in_folders_of_labels_hold(modality, content, media, tmp_path):
    path = write(tmp_path / "a.parquet", [content(i) for i in range(20)], media=media)
    write_media(path, tmp_path / "files")
    assert guess_task(path) == guess_task(tmp_path / "files") == modality.task
    ours = dataset(path, modality)
    assert values_of(ours) == values_of(dataset(tmp_path / "files", modality))
    assert ours.labels == NAMES
    assert ours.read_as.columns == (media, "label")
    assert "names of labels by the file: label" in ours.read_as.text
    rows = modality.read_unlabeled(ours.input_format, open_source(path))
    assert [location for location, _ in rows] == [f"row {number}" for number in range(1, 21)]


def test_the_parts_of_a_folder_are_parts_of_the_data(tmp_path):
    for part, count in (("train", 16), ("test", 4)):
        first = 0 if part == "train" else 16
        contents = [png(first + number) for number in range(count)]
        write(tmp_path / f"data/{part}-00000-of-00001.parquet", contents)
    test = open_source(tmp_path / "data", "test")
    read = Images().read_test(dataset(tmp_path / "data", Images()).input_format, test)
    assert len(read) == 4
    assert read.locations[0] == "test-00000-of-00001.parquet:1"


def test_rows_without_a_label_are_left_out_and_counted(tmp_path):
    labels = [0, 1, -1, None, *(i % 2 for i in range(16))]
    data = dataset(write(tmp_path / "a.parquet", [png(i) for i in range(20)], labels), Images())
    assert sum(data.sizes) == 18
    assert "2 rows have no label, or no image: left out." in data.notes
    unlabeled = write(tmp_path / "b.parquet", [png(1)], [-1])
    with pytest.raises(DataError, match="no row has a label"):
        dataset(unlabeled, Images())


def test_files_that_cannot_be_read_are_named_with_file_and_row(tmp_path):
    contents = [png(i) for i in range(8)]
    contents[4], contents[6] = contents[4][:40], b"\x89PNG and more"
    path = write(tmp_path / "a.parquet", contents)
    with pytest.raises(DataError, match=r"a\.parquet:5: column image: the image cannot") as caught:
        dataset(path, Images())
    assert "2 of 8 files cannot be read" in str(caught.value)
    assert f'write_media(*sys.argv[1:])" {path} files' in str(caught.value)


@pytest.mark.parametrize("nothing", [None, {"bytes": None, "path": None}], ids=str)
def test_rows_without_an_image_are_left_out_and_counted(nothing, tmp_path):
    cells = [{"bytes": png(number), "path": None} for number in range(20)]
    table = pyarrow.table({"image": [nothing, *cells], "label": ["cat", *["dog", "cat"] * 10]})
    parquet.write_table(table, tmp_path / "a.parquet")
    data = dataset(tmp_path / "a.parquet", Images())
    assert len(values_of(data)) == 20
    assert "1 row has no label, or no image: left out." in data.notes


def test_a_row_without_bytes_and_a_recording_of_another_format_are_refused(tmp_path):
    path = write(tmp_path / "a.parquet", [wav(1), None], media="audio")
    with pytest.raises(DataError, match=r"a\.parquet:2: column audio: no bytes"):
        dataset(path, Recordings())
    path = write(tmp_path / "b.parquet", [b"fLaC1", b"fLaC2"], media="audio")
    with pytest.raises(DataError, match="column audio: not a WAV file of 8- to 32-bit PCM"):
        dataset(path, Recordings())


def test_the_column_of_labels_is_asked_for_where_it_is_not_clear(tmp_path):
    named = ("fine_label", "coarse_label")
    path = write(tmp_path / "a.parquet", [png(i) for i in range(4)], named=named)
    with pytest.raises(DataError, match="several columns of labels"):
        media_columns(open_source(path))
    assert media_columns(open_source(path), ("fine_label",)) == (
        "image",
        "fine_label",
        ("coarse_label",),
    )
    assert media_columns(open_source(path), ("image", "coarse_label")).label == "coarse_label"
    with pytest.raises(DataError, match='no column "fine"'):
        media_columns(open_source(path), ("fine",))
    with pytest.raises(DataError, match="column fine_label holds no images or recordings, image"):
        media_columns(open_source(path), ("fine_label", "coarse_label"))


def test_a_table_is_never_in_memory_as_a_whole(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    contents, path = [png(1) + rng.bytes(50_000) for _ in range(160)], tmp_path / "pets.parquet"
    table = pyarrow.table({"image": contents, "label": ["cat", "dog"] * 80})
    parquet.write_table(table, path, row_group_size=16)
    del table
    before, most = pyarrow.total_allocated_bytes(), 0
    monkeypatch.setattr(source_module, "_read_file", None)
    source = open_source(path)
    for row in read_media_rows(source, media_columns(source)):
        most = max(most, pyarrow.total_allocated_bytes() - before)
        assert row.file.content.startswith(png(1))
    assert 0 < most < path.stat().st_size / 2
    assert len(source.content) < 160 * 100
    assert source.sha256 == file_hash(path)


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.large_binary(),
        pyarrow.binary_view(),
        pyarrow.binary(77),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.binary()),
    ],
    ids=str,
)
def test_images_are_bytes_of_any_type(kind, tmp_path):
    contents = [png(number)[:77].ljust(77, b"\0") for number in range(8)]
    cells = (
        pyarrow.array(contents, pyarrow.binary()).cast(kind)
        if (pyarrow.types.is_dictionary(kind))
        else pyarrow.array(contents, kind)
    )
    labels = [[NAMES[number % 2]] for number in range(8)]
    parquet.write_table(pyarrow.table({"image": cells, "label": labels}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    rows = read_media_rows(source, media_columns(source))
    assert [(row.label, row.file.content) for row in rows] == [
        (label, content) for (label,), content in zip(labels, contents, strict=True)
    ]


def test_several_labels_of_an_image_are_refused(tmp_path):
    table = pyarrow.table({"image": [png(1)], "label": [["cat", "dog"]]})
    parquet.write_table(table, tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r'a\.parquet:1: "label" has 2 values, "cat, dog", one exp'):
        list(read_media_rows(source, media_columns(source)))


def test_a_table_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "pets.parquet", list(map(png, range(8))))
    hash_file = hashlib.file_digest

    def change(stream, name):
        path.write_bytes(path.read_bytes() + b"PAR1")
        return hash_file(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", change)
    with pytest.raises(DataError, match=r"pets.parquet: changed while it was read.  Start again."):
        open_source(path)


def test_a_stream_of_media_is_refused(tmp_path):
    source = open_source(write(tmp_path / "a.parquet", [png(1)]))
    stream = DataSource("-", source.content, is_stream=True, table=source.table)
    with pytest.raises(DataError, match="from a table on disk, not from a stream"):
        list(read_media_rows(stream, media_columns(stream)))


@pytest.mark.slow
def test_a_run_on_a_table_of_images_can_be_opened_and_asked(tmp_path):
    import regard

    path = write(tmp_path / "a.parquet", [png(i) for i in range(20)])
    settings = ("training.epochs=1", "model.dim=8", "model.num_layers=1", "model.num_heads=2")
    train(path, tmp_path / "model", settings=settings)
    opened = regard.load(tmp_path / "model")
    results = list(opened.stream(str(path)))
    assert len(results) == 20
    assert {result.label for _, result in results} <= {*NAMES}
