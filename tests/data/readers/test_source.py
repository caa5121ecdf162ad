"""A file, a stream or a folder is opened once, and everything is taken from what was read."""

import gzip
import hashlib
import io
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from regard.data.readers.shape import inspect_shape
from regard.data.readers.source import (
    DataSource,
    as_source,
    describe_open_error,
    open_file,
    open_source,
)
from regard.data.readers.text_lines import read_lines
from regard.errors import ConfigError, DataError, ResourceError
from regard.runs.text_check import require_texts


def give_input(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content), closed=False))


@pytest.mark.parametrize("encoding", ["undefined", "no-such"])
def test_an_encoding_that_is_not_for_text_is_named(tmp_path, encoding):
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\n")
    with pytest.raises(ConfigError, match=f'unknown encoding "{encoding}"'):
        inspect_shape(open_source(path), encoding)
    assert inspect_shape(open_source(path), "idna").names == ("a", "b")  # it replaces nothing


def test_a_file_keeps_its_bytes_and_their_hash(tmp_path):
    path = tmp_path / "pairs.TSV"
    path.write_bytes(b"a\tb\n")
    source = open_source(path)
    path.unlink()
    assert (source.path, source.content, source.suffix) == (str(path), b"a\tb\n", ".tsv")
    assert source.sha256 == hashlib.sha256(b"a\tb\n").hexdigest()
    assert list(read_lines(source)) == ["a\tb"]
    assert not source.is_stream
    assert not source.is_folder


def test_an_open_source_is_not_opened_again():
    source = DataSource("gone.tsv", b"a\tb\n")
    assert as_source(source) is source


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b' \n{"text": "a"}', ".jsonl"),
        (b"\xef\xbb\xbf{}", ".jsonl"),
        ('{"text": "a"}'.encode("utf-16"), ".jsonl"),
        (b'[\n{\n"text": "a"}]', ".jsonl"),
        (b"{'text': 'a'}", ".jsonl"),
        (b"{0} files\t{0} Dateien\n", ".tsv"),
        (b"[{sic}] he said.\n", ".txt"),
        (b"\na\tb\n", ".tsv"),
        (b"Call me Ishmael.\n", ".txt"),
        (b"en,de\ncat,Katze\n", ".csv"),
        (b'text;label\n"a;b";1\n', ".csv"),
        (b"text|label\na b|1\n", ".csv"),
        (b"a cat ||| eine Katze\na dog ||| ein Hund\n", ".txt"),
        ("en,de\ncat,Katze\n".encode("utf-16"), ".csv"),
        (b"Call me, if you like, Ishmael.\nSome years ago, never mind, I went.\n", ".txt"),
        (b"Call me,\nIshmael.\n", ".txt"),
    ],
)
def test_a_stream_has_the_suffix_of_its_content(monkeypatch, content, suffix):
    give_input(monkeypatch, content)
    source = open_source("-")
    assert source.is_stream
    assert source.suffix == suffix


@pytest.mark.parametrize("is_named", [True, False])
def test_a_pipe_is_read_once_to_its_end(tmp_path, is_named):
    content = b"a\tb\n" * 100_000  # more than a pipe holds
    if is_named:
        reader, path = None, str(tmp_path / "pipe")
        os.mkfifo(path)
        end = path
    else:
        reader, end = os.pipe()
        path = f"/dev/fd/{reader}"

    def write():
        with open(end, "wb") as stream:  # noqa: PTH123 - a descriptor has no path
            stream.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    source = open_source(path)
    writer.join()
    if reader is not None:
        os.close(reader)
    assert source.content == content
    assert source.is_stream
    assert source.suffix == ".tsv"


def test_a_file_named_by_its_descriptor_is_a_stream(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"a\tb\n")
    with path.open("rb") as stream:
        assert open_source(f"/dev/fd/{stream.fileno()}").is_stream


def test_closed_standard_input_is_named(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        open_source("-")


def test_a_pipe_without_a_writer_is_refused_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr("regard.data.readers.source._SECONDS_TO_WAIT", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="a pipe to which nothing is written"):
        open_source(tmp_path / "pipe")


@pytest.mark.slow
def test_a_pipe_whose_writer_takes_time_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("regard.data.readers.source._SECONDS_TO_WAIT", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    keep = os.open(path, os.O_RDWR)  # a writer is there from the beginning

    def write():
        time.sleep(0.3)
        os.write(keep, b"a\tb\n")
        os.close(keep)

    writer = threading.Thread(target=write)
    writer.start()
    assert open_source(path).content == b"a\tb\n"
    writer.join()


def test_devices_and_endless_streams_are_refused(monkeypatch):
    with pytest.raises(DataError, match=r"^/dev/zero: a device, not a file"):
        open_source("/dev/zero")
    assert open_source("/dev/null").content == b""
    monkeypatch.setattr("regard.data.readers.source._MAX_BYTES", 1000)
    give_input(monkeypatch, bytes(2000))
    with pytest.raises(DataError, match=r"^-: more than .* Write it to a file"):
        open_source("-")


def test_a_gzip_file_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "pairs.TSV.gz"
    path.write_bytes(gzip.compress(b"a\tb\n"))
    source = open_source(path)
    assert (source.content, source.suffix) == (b"a\tb\n", ".tsv")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be unpacked"):
        open_source(path)
    path.write_bytes(gzip.compress(bytes(2000)))
    monkeypatch.setattr("regard.data.readers.source._MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than"):
        open_source(path)


def test_what_would_fill_the_memory_is_refused_with_a_part_to_take(tmp_path, monkeypatch):
    path = tmp_path / "pairs.tsv.gz"
    path.write_bytes(gzip.compress(bytes(1000)))
    monkeypatch.setattr("regard.data.readers.source.free_memory_bytes", lambda: 4000)
    assert len(open_source(path).content) == 1000
    path.write_bytes(gzip.compress(bytes(1001)))
    with pytest.raises(ResourceError) as raised:
        open_source(path)
    assert str(raised.value) == (
        f"{path}, unpacked: more than 0.0 GB, a quarter of the memory that is free.  "
        f"Name a part of it: gzip -dc {path} | head -n 1000000 > part.tsv."
    )
    give_input(monkeypatch, bytes(1001))
    with pytest.raises(ResourceError, match=r"^-: more than .* of the memory that is free"):
        open_source("-")
    plain = tmp_path / "pairs.tsv"
    plain.write_bytes(b"a\tb\n" * 1000)
    assert len(open_source(plain).content) == 4000
    plain.write_bytes(b"a\tb\n" * 1001)
    with pytest.raises(ResourceError, match=r"has 0.0 GB, 0.0 GB of memory are free"):
        open_source(plain)


@pytest.mark.slow
def test_a_packed_file_that_expands_without_bound_is_refused_before_the_memory_ends(
    tmp_path, monkeypatch
):
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress(bytes(1 << 26)) * 64)  # 4 GiB of zeros in 4 MB
    monkeypatch.setattr("regard.data.readers.source.free_memory_bytes", lambda: 1 << 27)
    tracemalloc.start()
    with pytest.raises(ResourceError, match=r"more than 0\.0 GB"):
        open_source(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 27


def test_a_file_that_grows_or_is_cut_while_it_is_read_is_what_it_was_or_less(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    for change, content in ((b"more\n", b"one\n"), (None, b"")):
        path.write_bytes(b"one\n")

        def interfere(name, size, change=change):
            with Path(name).open("ab" if change else "wb") as file:
                file.write(change or b"")

        monkeypatch.setattr("regard.data.readers.source._require_memory_for_file", interfere)
        assert open_source(path).content == content


def test_a_zstandard_file_names_the_package_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / "pairs.tsv.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd and more")
    with pytest.raises(DataError, match="pip install zstandard"):
        open_source(path)


def test_a_folder_lists_its_files_and_has_no_content(tmp_path):
    for name in ("b/2.png", "a/1.png", "a/.hidden.png", "_noise/x.wav", ".git/y.png", "list.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    source = open_source(tmp_path)
    names = [file.relative_to(tmp_path).as_posix() for file in source.files]
    assert names == ["a/1.png", "b/2.png", "list.txt"]
    with pytest.raises(DataError, match="a directory, not a file"):
        _ = source.content


def test_a_file_that_is_a_link_to_nowhere_is_said_to_be_one(tmp_path):
    (tmp_path / "a.csv").symlink_to("b.csv")
    with pytest.raises(DataError, match=r"a\.csv: a link to b\.csv, which is not there\.  Fetch"):
        open_source(tmp_path / "a.csv")


def test_a_folder_that_may_not_be_listed_is_named_for_a_file_in_it(tmp_path, monkeypatch):
    folder = tmp_path / "closed"
    folder.mkdir()
    monkeypatch.setattr("os.access", lambda path, _: path != folder)
    text = describe_open_error(str(folder / "config.toml"), PermissionError(13, "denied"))
    assert text == f"{folder}: no permission to list it.  Allow it: chmod u+rx {folder}"


def test_links_in_a_circle_are_not_followed_and_links_to_elsewhere_are_once(tmp_path):
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for folder in (root / "a", root / "b", elsewhere):
        folder.mkdir(parents=True)
        (folder / "1.png").touch()
    (root / "a" / "itself").symlink_to(".")
    (root / "a" / "neighbour").symlink_to("../b")
    (root / "b" / "above").symlink_to("../..")
    (root / "c").symlink_to(elsewhere)
    names = [file.relative_to(root).as_posix() for file in open_source(root).files]
    assert names == ["a/1.png", "b/1.png", "b/above/elsewhere/1.png"]


def test_the_hash_of_a_folder_covers_names_and_contents_of_data_files(tmp_path):
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "a.png").write_bytes(b"image")
    (tmp_path / "notes.txt").write_bytes(b"passed over")
    inner = hashlib.sha256(b"image").hexdigest()
    expected = hashlib.sha256(f"yes/a.png\0{inner}\n".encode()).hexdigest()
    assert open_source(tmp_path).sha256 == expected


def test_the_hash_of_a_folder_covers_the_files_of_linked_folders(tmp_path):
    plain, linked = tmp_path / "plain", tmp_path / "linked"
    (plain / "yes").mkdir(parents=True)
    (plain / "yes" / "a.png").write_bytes(b"image")
    linked.mkdir()
    (linked / "yes").symlink_to(plain / "yes")
    assert open_source(linked).sha256 == open_source(plain).sha256
    (plain / "yes" / "a.png").write_bytes(b"another")
    assert open_source(linked).sha256 == open_source(plain).sha256
    names = [file.relative_to(linked).as_posix() for file in open_source(linked).data_files]
    assert names == ["yes/a.png"]


def test_a_link_that_leads_nowhere_is_refused_in_the_place_of_data(tmp_path):
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "a.png").touch()
    (tmp_path / "yes" / "newest").symlink_to("nowhere")  # not the name of an image
    assert len(open_source(tmp_path).files) == 1
    (tmp_path / "yes" / "b.png").symlink_to("../.git/annex/b.png")
    with pytest.raises(DataError, match=r"yes/b.png: a link to ../.git/annex/b.png, which is not"):
        _ = open_source(tmp_path).files


@pytest.mark.parametrize(
    ("name", "content", "kind", "names"),
    [
        ("a.jsonl", '{"text": "a", "label": "b"}\n', "records", ("text", "label")),
        ("a.csv", "text;label\na;b\n", "table", ("text", "label")),
        ("a.tsv", "\na\tb\n", "table", ("a", "b")),
        ("a.md", "# Title\n", "text", ("# Title",)),
        ("a.txt", "a\tb\n", "table", ("a", "b")),
        ("a.txt", "", "text", ()),
        ("a.tsv", b"\xff\xfe\xff", "table", ()),
    ],
)
def test_the_shape_of_a_file_has_its_kind_and_the_names_in_its_first_line(
    name, content, kind, names
):
    raw = content.encode() if isinstance(content, str) else content
    shape = inspect_shape(DataSource(name, raw))
    assert (shape.kind, shape.names) == (kind, names)


def test_the_shape_of_a_file_says_whether_it_holds_numbers():
    labeled = inspect_shape(DataSource("a.csv", b"label,x1,x2\nsine,0.5,1\n"))
    assert labeled.has_numbers_beside_label
    assert not labeled.has_row_of_numbers
    unlabeled = inspect_shape(DataSource("a.csv", b"kind,x1,x2,x3\nsine,0.5,1,2\n"))
    assert not unlabeled.has_numbers_beside_label
    assert unlabeled.has_row_of_numbers


def test_a_pipe_or_a_device_is_no_file_to_open(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"pipe: a pipe or a device, not a file"):
        open_file(str(pipe))
    with pytest.raises(DataError, match=r"^/dev/zero: a pipe or a device"):
        next(read_lines("/dev/zero"))
    with open_file(os.devnull) as stream:
        assert stream.read() == b""


def test_texts_to_check_an_export_may_come_from_a_pipe(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"one\n\ntwo\n")
    os.close(writer)
    assert require_texts(f"/dev/fd/{reader}") == ["one", "two"]
    os.close(reader)
    with pytest.raises(DataError, match=r"^/dev/zero: a device, not a file"):
        require_texts("/dev/zero")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    inner = tmp_path / "cat"
    inner.mkdir()
    list_folder = Path.iterdir

    def refuse(folder):
        if folder == inner:
            raise PermissionError(13, "Permission denied", str(folder))
        return list_folder(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError) as caught:
        open_source(tmp_path).files  # noqa: B018 - the property lists them
    assert str(caught.value) == (
        f"{inner}: no permission to list it.  Allow it: chmod u+rx {inner}"
    )


def test_a_folder_of_nearly_the_same_name_is_proposed(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / "image")
    assert str(caught.value).endswith(f"no such file.  Did you mean {tmp_path / 'images'}?")
    with pytest.raises(DataError, match=r"no such file\.$"):  # the rest of the path is the same
        open_source(tmp_path / "pairs.tsv")


@pytest.mark.parametrize(
    ("name", "here"),
    [("data\\pairs.tsv", "data/pairs.tsv"), ("D:/a b/pairs.tsv", "/mnt/d/a b/pairs.tsv")],
)
def test_a_path_of_windows_is_written_as_under_wsl(name, here):
    with pytest.raises(DataError) as caught:
        open_source(name)
    assert str(caught.value) == (
        f"{name}: no such file.  A path of Windows?  Under WSL it is {here}"
    )


def test_an_address_is_to_be_downloaded():
    with pytest.raises(DataError) as caught:
        open_source("https://example.org/a.tsv")
    assert str(caught.value) == (
        "https://example.org/a.tsv: no such file.  Download it, and name the file."
    )
