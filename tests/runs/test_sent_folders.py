"""A folder that only rank 0 has is sent to each of the other machines once."""

import tempfile
from pathlib import Path

import pytest
from tests.data.readers.test_media_tables import png, write
from tests.runs.test_start_checks import on_ranks, refused

from regard.data.readers.media_tables import media_columns, read_media_rows
from regard.data.readers.source import DataSource, open_source
from regard.errors import ConfigError, DataError, ResourceError
from regard.runs import sent_folders
from regard.runs.sent_folders import share_folder, share_table


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of images that rank 0 alone sees, and a place for temporary files."""
    path, temporary = tmp_path / "images", tmp_path / "temporary"
    for name in ("cat/1.png", "cat/2.png", "dog/deep/1.png"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())
    (path / "notes.txt").write_text("not data")
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    find = sent_folders._find
    monkeypatch.setattr(
        sent_folders, "_find", lambda place, sha256: None if place == path else find(place, sha256)
    )
    return path


def share(world, folder):
    source = open_source(folder) if world.is_first else None
    return share_folder(world, source, str(folder))


def test_each_rank_has_the_files_and_a_second_start_sends_none(folder, monkeypatch):
    monkeypatch.setattr(sent_folders, "_SENT_BYTES", 10)  # two files are more
    first, *others = on_ranks(lambda world: share(world, folder), size=3)
    assert first.path == str(folder)
    (kept,) = {source.path for source in others}
    assert {source.sha256 for source in others} == {first.sha256}
    names = [path.relative_to(kept).as_posix() for path in others[0].data_files]
    assert names == ["cat/1.png", "cat/2.png", "dog/deep/1.png"]
    assert [path.name for path in Path(tempfile.gettempdir()).iterdir()] == [Path(kept).name]

    def send(*_):
        raise AssertionError("nothing is to be sent")

    monkeypatch.setattr(sent_folders, "_read", send)
    again = on_ranks(lambda world: share(world, folder))
    assert [source.path for source in again] == [str(folder), kept]


def test_one_process_of_a_machine_receives():
    class Ranks:
        hosts, size = ("a", "a", "b", "b", "c"), 5

    lacking_on = [False, False, True, True, True]
    assert sent_folders._receivers(Ranks(), [not lacking for lacking in lacking_on]) == {2, 4}


def refuse_room(*_, **__):
    raise OSError(28, "No space left on device")


def refuse_second(path, *words, open_path=Path.open):
    return refuse_room() if path.name == "2.png" and words == ("ab",) else open_path(path, *words)


@pytest.mark.parametrize(
    ("owner", "name", "replacement"),
    [(Path, "open", refuse_second), (tempfile, "TemporaryDirectory", refuse_room)],
    ids=["for a file", "for a folder"],
)
def test_a_machine_without_room_is_named_after_all_files_have_come(
    folder, monkeypatch, owner, name, replacement
):
    monkeypatch.setattr(sent_folders, "_SENT_BYTES", 10)  # two files are more
    monkeypatch.setattr(owner, name, replacement)
    text = refused(lambda world: share(world, folder), ResourceError)
    assert text.startswith("rank 1 (host b): ")
    assert "cannot be kept there (No space left on device).  Make room" in text
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


def test_what_changes_while_it_is_sent_is_not_used(folder, monkeypatch):
    read = sent_folders._read
    monkeypatch.setattr(sent_folders, "_read", lambda *names: [b"other" for _ in read(*names)])
    text = refused(lambda world: share(world, folder), DataError)
    assert "not what rank 0 has: it changed meanwhile.  Start again." in text


def test_a_linked_folder_is_refused_by_name(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "3.png").write_bytes(b"3")
    (folder / "bird").symlink_to(tmp_path / "elsewhere")
    text = refused(lambda world: share(world, folder), ConfigError)
    assert text == (
        f"{folder}/bird/3.png: in a linked folder, which is not sent.  Copy {folder} there."
    )
    assert DataSource(str(folder), None).is_folder


@pytest.fixture(params=["a file", "a folder"])
def table(request, tmp_path, monkeypatch):
    """A table of images, and its rows as rank 0 sends them; others see no files of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    Path(tempfile.tempdir).mkdir()
    monkeypatch.setattr(sent_folders, "_SENT_BYTES", 1000)  # a file is several pieces
    root = tmp_path / "pets"
    names = ["train-0.parquet", "train-1.parquet", "test-0.parquet"]
    for number, name in enumerate(names):
        write(root / "data" / name, [png(4 * number + index) for index in range(4)])
    find = sent_folders._has_tables
    monkeypatch.setattr(
        sent_folders,
        "_has_tables",
        lambda path, *rest: path.parts[-2] == "temporary" and find(path, *rest),
    )
    return open_source(root if request.param == "a folder" else root / "data" / names[0])


def rows_of(source):
    rows = read_media_rows(source, media_columns(source))
    return [(row.location, row.label, row.file.content) for row in rows]


def test_each_rank_has_the_files_of_a_table_of_images(table, monkeypatch):
    first, *others = on_ranks(lambda world: share_table(world, table), size=3)
    assert first is table
    assert len(rows_of(table)) == (8 if table.table.files else 4)
    for source in others:
        assert Path(tempfile.gettempdir()) in Path(source.path).parents
        assert rows_of(source) == rows_of(table)
        assert source.sha256 == table.sha256
    monkeypatch.setattr(sent_folders, "_read", None)  # a second start sends none
    again = on_ranks(lambda world: share_table(world, table))
    assert again[1].path == others[0].path


def test_a_table_that_changes_while_it_is_sent_is_not_used(table, monkeypatch):
    read = sent_folders._read
    monkeypatch.setattr(sent_folders, "_read", lambda *names: [b"other" for _ in read(*names)])
    text = refused(lambda world: share_table(world, table), DataError)
    assert "not what rank 0 has: it changed meanwhile.  Start again." in text
