"""Files that are complete or not there at all, and damage that is always noticed."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from tests.processes import start_process

from regard.errors import ConfigError, NextStep, ResourceError
from regard.hub import storage
from regard.hub.storage import (
    append_line,
    read_tensors,
    sweep_temporaries,
    write_atomic,
    write_tensors,
)

Usage = namedtuple("Usage", ["total", "used", "free"])


def write_example(path: Path) -> bytes:
    write_tensors(path, {"weight": torch.arange(6.0).view(2, 3)}, {"step": 7})
    return path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def run_python(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]


def finished_process_id() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- any file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["naïve\r\n", b"\x00\xff", "", "x" * 100_000])
def test_a_file_comes_back_as_written_and_nothing_else_is_left(tmp_path: Path, content):
    write_atomic(tmp_path / "file", content)
    data = content.encode() if isinstance(content, str) else content
    assert (tmp_path / "file").read_bytes() == data
    assert names(tmp_path) == ["file"]


def test_a_file_replaces_the_previous_one(tmp_path: Path):
    write_atomic(tmp_path / "file", "first")
    write_atomic(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "second"


def test_missing_folders_are_made(tmp_path: Path):
    write_atomic(tmp_path / "a" / "b" / "file", "text")
    assert (tmp_path / "a" / "b" / "file").read_text() == "text"


def test_a_line_is_appended_to_those_that_are_whole(tmp_path: Path):
    path = tmp_path / "log"
    append_line(path, b"one")
    append_line(path, "zwei ä".encode())
    assert path.read_bytes() == "one\nzwei ä\n".encode()


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 20_000])
@pytest.mark.parametrize("before", [b"", b"one\n"])
def test_a_line_that_a_killed_writer_left_without_end_is_dropped(size, before, tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(before + b"x" * size)
    append_line(path, b"two")
    assert path.read_bytes() == before + b"two\n"


def test_a_full_disk_leaves_the_lines_before(tmp_path: Path):
    path = tmp_path / "log"
    append_line(path, b"one")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(ResourceError, match="The previous file is intact"):
            append_line(path, b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert path.read_bytes() == b"one\n"


def test_lines_are_not_appended_where_a_folder_is_missing(tmp_path: Path):
    with pytest.raises(ResourceError, match="cannot be written"):
        append_line(tmp_path / "none" / "log", b"one")


def test_a_file_without_a_folder_goes_to_the_current_one(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomic(Path("file"), "text")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("write", [lambda path: write_atomic(path, "x"), write_example])
def test_the_mode_of_a_file_follows_the_umask(tmp_path: Path, write):
    previous = os.umask(0o027)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(previous)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_content_and_folder_are_forced_to_disk_around_the_rename(tmp_path: Path, monkeypatch):
    events = []

    def note(path: Path) -> None:
        events.append((path.name, (tmp_path / "file").exists()))

    monkeypatch.setattr(storage, "force_to_disk", note)
    write_atomic(tmp_path / "file", "text")
    assert events == [("file", False), (tmp_path.name, True)]


def test_an_interrupted_writer_leaves_the_previous_file_and_no_temporary(
    tmp_path: Path, monkeypatch
):
    write_atomic(tmp_path / "file", "first")

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "force_to_disk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first"
    assert names(tmp_path) == ["file"]


def test_a_file_in_the_place_of_a_folder_asks_for_another_folder(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError) as caught:
        write_atomic(tmp_path / "taken" / "file", "text")
    folder = tmp_path / "taken"
    assert str(caught.value) == (
        f"{folder}: cannot be written (Not a directory).  Choose another folder with `output`."
    )


def test_a_file_in_the_place_of_an_outer_folder_asks_for_another_folder(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError) as caught:
        write_example(tmp_path / "taken" / "checkpoints" / "last")
    folder = tmp_path / "taken" / "checkpoints"
    assert str(caught.value) == (
        f"{folder}: cannot be written (Not a directory).  Choose another folder with `output`."
    )


def test_a_folder_in_the_place_of_the_file_asks_for_another_folder(tmp_path: Path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError) as caught:
        write_example(tmp_path / "taken")
    assert str(caught.value) == (
        f"{tmp_path / 'taken'}: cannot be written (Is a directory).  "
        "Choose another folder with `output`."
    )
    assert names(tmp_path) == ["taken"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_asks_for_another_folder(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError) as caught:
        write_atomic(tmp_path / "file", "text")
    assert str(caught.value) == (
        f"{tmp_path}: cannot be written (Permission denied).  Choose another folder with `output`."
    )


def test_a_file_that_cannot_be_replaced_does_not_ask_for_another_folder(
    tmp_path: Path, monkeypatch
):
    def refuse(path: Path) -> None:
        raise PermissionError(13, os.strerror(13))

    (tmp_path / "file").write_text("first")
    monkeypatch.setattr(storage, "force_to_disk", refuse)
    with pytest.raises(ConfigError) as caught:
        write_atomic(tmp_path / "file", "text")
    assert str(caught.value) == f"{tmp_path}: cannot be written (Permission denied)."


@pytest.mark.parametrize("code", [13, 1, 30])
def test_a_folder_that_the_system_refuses_asks_for_another_folder(
    tmp_path: Path, monkeypatch, code: int
):
    def refuse(path: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(storage, "force_to_disk", refuse)
    with pytest.raises(ConfigError) as caught:
        write_atomic(tmp_path / "file", "text")
    assert str(caught.value) == (
        f"{tmp_path}: cannot be written ({os.strerror(code)}).  "
        "Choose another folder with `output`."
    )


def test_a_failing_disk_is_named_and_the_previous_file_is_intact(tmp_path: Path, monkeypatch):
    write_atomic(tmp_path / "file", "first")

    def fail(path: Path) -> None:
        raise OSError(5, "whatever")

    monkeypatch.setattr(storage, "force_to_disk", fail)
    with pytest.raises(ResourceError) as caught:
        write_atomic(tmp_path / "file", "second")
    assert str(caught.value) == (
        f"{tmp_path / 'file'}: cannot be written ({os.strerror(5)}).  The previous file is intact."
    )
    assert (tmp_path / "file").read_text() == "first"


# --- a full disk ----------------------------------------------------------------------------------


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch):
    path = tmp_path / "last.safetensors"
    before = write_example(path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9, 3_999_999))
    monkeypatch.setattr(storage, "save_file", lambda *arguments: pytest.fail("it was written"))
    resume = NextStep("Resume", "train", (), (("resume", "true"),))
    with pytest.raises(ResourceError) as caught:
        write_tensors(path, {"weight": torch.zeros(1_000_000)}, {}, resume)
    assert str(caught.value) == (
        f"{path}: the disk is full: 6 MB are needed, 3 MB are free.  "
        "The previous checkpoint is intact."
    )
    assert caught.value.next_steps == (resume,)
    assert path.read_bytes() == before
    assert names(tmp_path) == [path.name]


def test_a_full_disk_promises_no_previous_file_where_there_is_none(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9, 0))
    with pytest.raises(ResourceError) as caught:
        write_atomic(tmp_path / "new" / "file", "text")
    path = tmp_path / "new" / "file"
    assert str(caught.value) == f"{path}: the disk is full: 2 MB are needed, 0 MB are free."
    assert names(tmp_path) == []


def test_a_disk_that_does_not_tell_its_size_is_taken_as_large_enough(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 0))
    write_atomic(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("code", [28, 122])
def test_a_disk_that_fills_up_while_writing_gives_the_same_error(
    tmp_path: Path, monkeypatch, code: int
):
    path = tmp_path / "last"
    before = write_example(path)

    def fill(tensors, file, metadata):
        file.write_bytes(b"half")
        raise SafetensorError(f"Error while serializing: I/O error: whatever (os error {code})")

    monkeypatch.setattr(storage, "save_file", fill)
    with pytest.raises(ResourceError) as caught:
        write_example(path)
    pattern = r": the disk is full: 2 MB are needed, [\d,]+ MB are free\.  The previous .* intact\."
    assert re.fullmatch(re.escape(str(path)) + pattern, str(caught.value))
    assert path.read_bytes() == before
    assert names(tmp_path) == ["last"]


def test_any_other_error_of_safetensors_is_passed_on(tmp_path: Path, monkeypatch):
    def fail(tensors, file, metadata):
        raise SafetensorError("header too large")

    monkeypatch.setattr(storage, "save_file", fail)
    with pytest.raises(SafetensorError, match="header too large"):
        write_example(tmp_path / "last")
    assert names(tmp_path) == []


FILL = """
    import shutil, sys, torch
    from pathlib import Path
    from regard.errors import ResourceError
    from regard.hub.storage import read_tensors, write_atomic, write_tensors

    folder = Path(sys.argv[1])
    path, small, large = folder / "last", torch.ones(10), torch.ones(1_000_000)
    write_tensors(path, {"weight": small}, {"step": 1})
    write_atomic(folder / "text", "first")
    shutil.disk_usage = lambda folder: shutil._ntuple_diskusage(10**9, 0, 10**9)
    for write in (
        lambda: write_tensors(path, {"weight": large}, {"step": 2}),
        lambda: write_atomic(folder / "text", b"x" * 4_000_000),
    ):
        try:
            write()
        except ResourceError as error:
            print(error)
    print(read_tensors(path)[1], (folder / "text").read_text(), len(list(folder.iterdir())))
"""


@pytest.mark.slow
def test_a_real_disk_that_fills_up_leaves_the_previous_files(tmp_path: Path):
    mount = f'mount -t tmpfs -o size=2m tmpfs {tmp_path}; exec "$@"'
    within = ["unshare", "--map-root-user", "--mount", "sh", "-ec", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*within, *run_python("")]).returncode:
        pytest.skip("this system does not let us mount a small disk")
    command = [*within, *run_python(FILL, tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    full = "the disk is full: 6 MB are needed, 1,000 MB are free"
    assert printed.splitlines() == [
        f"{tmp_path / 'last'}: {full}.  The previous checkpoint is intact.",
        f"{tmp_path / 'text'}: {full.replace('6', '5')}.  The previous file is intact.",
        "{'step': 1} first 2",
    ]


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_leaves_the_previous_files(tmp_path: Path):
    limit = "\n    import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))"
    command = run_python(limit + FILL, tmp_path)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [
        f"{tmp_path / 'last'}: cannot be written (File too large).  "
        "The previous checkpoint is intact.",
        f"{tmp_path / 'text'}: cannot be written (File too large).  The previous file is intact.",
        "{'step': 1} first 2",
    ]


# --- kills and leftovers --------------------------------------------------------------------------


def write_forever(folder: Path) -> None:
    torch.set_num_threads(1)
    for step in itertools.count():
        weights = {str(name): torch.full((100, 100), float(step)) for name in range(50)}
        write_tensors(folder / "last", weights, {"step": step})


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_readable_file(tmp_path: Path):
    for number in range(6):
        folder = tmp_path / str(number)
        writer = start_process(write_forever, folder)
        while not (folder / "last").exists():
            assert writer.is_alive()
            time.sleep(0.01)
        time.sleep(0.0137 * number)
        writer.kill()
        writer.join()
        tensors, state = read_tensors(folder / "last")
        assert {tensor.unique().item() for tensor in tensors.values()} == {state["step"]}
        sweep_temporaries(folder)
        assert names(folder) == ["last"]


def leave_temporary(folder: Path, process: int) -> Path:
    leftover = folder / f".last.safetensors.{process}.tmp"
    leftover.mkdir()
    (leftover / "last.safetensors").write_text("half")
    return leftover


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path):
    leave_temporary(tmp_path, finished_process_id())
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == []


def test_leftovers_with_our_own_process_number_are_swept(tmp_path: Path):
    leave_temporary(tmp_path, os.getpid())
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == []


def test_the_temporary_of_another_running_process_is_left_alone(tmp_path: Path):
    leftover = leave_temporary(tmp_path, os.getppid())
    sweep_temporaries(tmp_path)
    assert leftover.exists()


def test_sweeping_leaves_every_other_file_alone(tmp_path: Path):
    number = finished_process_id()
    kept = [f".last.{number}.tmp", "last.tmp", f"last.{number}.tmp", ".tmp", ".1.tmp"]
    for name in kept:
        (tmp_path / name).write_text("")
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_sweeping_a_missing_folder_does_nothing(tmp_path: Path):
    sweep_temporaries(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_a_writer_continues_over_a_leftover_of_its_own_process_number(tmp_path: Path):
    leave_temporary(tmp_path, os.getpid())
    write_example(tmp_path / "last.safetensors")
    assert names(tmp_path) == ["last.safetensors"]


# --- tensors and state ----------------------------------------------------------------------------

DTYPES = [
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32,
    torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3)], ids=str)
def test_tensors_come_back_with_type_shape_and_values(tmp_path: Path, dtype, shape):
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 9).to(dtype)
    write_tensors(tmp_path / "file", {"weight": tensor}, {})
    read = read_tensors(tmp_path / "file")[0]["weight"]
    assert read.dtype == dtype
    assert read.shape == shape
    assert torch.equal(read, tensor)


def test_tensors_that_share_memory_come_back_in_full_each(tmp_path: Path):
    base = torch.arange(12.0).view(3, 4)
    tensors = {
        "whole": base,
        "again": base,
        "transposed": base.t(),
        "row": base[1],
        "column": base[:, 1],
        "expanded": base[:1].expand(5, 4),
        "parameter": torch.nn.Parameter(base[0]),
        "empty": base[:0],
    }
    write_tensors(tmp_path / "file", tensors, {})
    read, _ = read_tensors(tmp_path / "file")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_lazily_conjugated_tensors_are_written_conjugated(tmp_path: Path):
    tensors = {"z": torch.tensor([1 + 2j]).conj(), "y": torch.tensor([1 + 2j]).conj().imag}
    write_tensors(tmp_path / "file", tensors, {})
    read, _ = read_tensors(tmp_path / "file")
    assert read["z"].item() == 1 - 2j
    assert read["y"].item() == -2


def test_writing_does_not_change_the_tensors_of_the_caller(tmp_path: Path):
    weight = torch.nn.Parameter(torch.ones(3))
    tensors = {"a": weight, "b": weight}
    write_tensors(tmp_path / "file", tensors, {})
    assert tensors["a"] is weight
    assert tensors["b"] is weight


def test_what_was_read_can_be_changed_and_written_over_the_same_file(tmp_path: Path):
    write_example(tmp_path / "file")
    tensors, state = read_tensors(tmp_path / "file")
    tensors["weight"] += 1
    write_tensors(tmp_path / "file", tensors, state)
    again, _ = read_tensors(tmp_path / "file")
    assert torch.equal(again["weight"], torch.arange(6.0).view(2, 3) + 1)


def test_no_tensors_at_all_are_fine(tmp_path: Path):
    write_tensors(tmp_path / "file", {}, {"step": 1})
    assert read_tensors(tmp_path / "file") == ({}, {"step": 1})


def test_equal_content_makes_an_equal_file(tmp_path: Path):
    assert write_example(tmp_path / "a") == write_example(tmp_path / "b")


def test_the_reserved_name_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="__metadata__"):
        write_tensors(tmp_path / "file", {"__metadata__": torch.ones(1)}, {})


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**130), 2**130)
    | st.floats(allow_nan=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(st.characters()), values, max_size=4))
@settings(max_examples=20)
def test_the_state_comes_back_exactly(state):
    with tempfile.TemporaryDirectory() as folder:
        write_tensors(Path(folder) / "file", {}, state)
        read = read_tensors(Path(folder) / "file")[1]
    assert read == state
    assert repr(read) == repr(state)  # tells 1 from 1.0 and True, and 0.0 from -0.0


def test_half_a_character_in_the_state_comes_back(tmp_path: Path):
    write_tensors(tmp_path / "file", {}, {"text": "\ud800"})
    assert read_tensors(tmp_path / "file")[1] == {"text": "\ud800"}


def test_infinite_numbers_and_nan_are_kept(tmp_path: Path):
    write_tensors(tmp_path / "file", {}, {"best": -math.inf, "worst": math.inf, "loss": math.nan})
    state = read_tensors(tmp_path / "file")[1]
    assert repr(state) == "{'best': -inf, 'worst': inf, 'loss': nan}"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [{"b": (1, 2)}]}, "state.a[0].b: JSON cannot keep a tuple as it is."),
        ({"a": {1: 2}}, "state.a: the key 1 is not text, JSON would change it."),
        ({"a": torch.ones(1)}, "state.a: JSON cannot keep a Tensor as it is."),
        ({"a": b"x"}, "state.a: JSON cannot keep a bytes as it is."),
    ],
)
def test_a_state_that_json_would_change_is_refused(tmp_path: Path, state, message):
    with pytest.raises(TypeError) as caught:
        write_tensors(tmp_path / "file", {}, state)
    assert str(caught.value) == message
    assert names(tmp_path) == []


def test_the_file_is_plain_safetensors_with_a_json_state(tmp_path: Path):
    content = write_example(tmp_path / "last")
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    document = json.loads(header["__metadata__"]["regard"])
    assert document["state"] == {"step": 7}
    assert re.fullmatch("[0-9a-f]{64}", document["sha256"])
