"""Files that are missing, cut, changed or foreign: each says what it is, and nothing is guessed."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.hub.test_storage import write_example

from regard.errors import RegardError, WeightsError
from regard.hub import storage
from regard.hub.storage import read_state, read_tensors, write_tensors

RESTORE = "Restore the file from a copy, or train again with another `output`."


def error_of_reading(path: Path, *, check: bool = True) -> str:
    with pytest.raises(WeightsError) as caught:
        read_tensors(path, check=check)
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    path = tmp_path / "last.safetensors"
    assert error_of_reading(path) == f"{path}: no such file."


def test_a_missing_file_is_named_where_its_state_alone_is_read(tmp_path: Path):
    path = tmp_path / "last.safetensors"
    with pytest.raises(WeightsError) as error:
        read_state(path)
    assert str(error.value) == f"{path}: no such file."


def test_a_folder_is_refused(tmp_path: Path):
    assert error_of_reading(tmp_path) == f"{tmp_path}: a folder, a .safetensors file was expected."


def test_a_file_that_the_system_refuses_says_why(tmp_path: Path, monkeypatch):
    def refuse(path, framework):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage, "safe_open", refuse)
    path = tmp_path / "last"
    path.touch()
    assert error_of_reading(path) == f"{path}: cannot be read (Permission denied)."


def test_a_file_cut_short_says_both_sizes(tmp_path: Path):
    path = tmp_path / "last.safetensors"
    write_tensors(path, {"weight": torch.zeros(1000)}, {})
    data = path.read_bytes()
    path.write_bytes(data[:-1000])
    assert error_of_reading(path) == (
        f"{path}: cut short: {len(data) - 1000:,} bytes, the header promises {len(data):,}."
    )


def test_a_damaged_file_of_a_published_model_is_to_be_downloaded_again(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"12345")
    assert error_of_reading(path) == (
        f"{path}: cut short: 5 bytes, too few for a header.  "
        "Restore the file from a copy, or download it again."
    )


def test_a_file_cut_within_its_header_says_what_the_header_needs(tmp_path: Path):
    path = tmp_path / "last"
    data = write_example(path)
    path.write_bytes(data[:50])
    assert error_of_reading(path) == (
        f"{path}: cut short: 50 bytes, the header promises {len(data) - 24:,}."
    )


@pytest.mark.parametrize("size", [0, 1, 8])
def test_a_file_cut_before_its_header_says_so(tmp_path: Path, size: int):
    path = tmp_path / "last"
    path.write_bytes(write_example(path)[:size])
    assert error_of_reading(path) == (
        f"{path}: cut short: {size} bytes, too few for a header.  {RESTORE}"
    )


def test_a_file_with_more_than_its_header_promises_is_damaged(tmp_path: Path):
    path = tmp_path / "last"
    path.write_bytes(write_example(path) + b"x")
    assert error_of_reading(path).startswith(f"{path}: damaged: ")
    assert error_of_reading(path).endswith(RESTORE)


def test_damaged_content_shows_both_checksums(tmp_path: Path):
    path = tmp_path / "last"
    data = bytearray(write_example(path))
    stored = re.search(rb'sha256\\": \\"(....)', data)
    assert stored
    data[-1] ^= 1
    path.write_bytes(data)
    pattern = (
        re.escape(f"{path}: damaged: the checksum does not agree (sha256 of the content ")
        + r"[0-9a-f]{4}…"
        + re.escape(f", stored {stored[1].decode()}…).  {RESTORE}")
    )
    assert re.fullmatch(pattern, error_of_reading(path))


def test_damage_is_passed_over_only_on_demand(tmp_path: Path):
    data = bytearray(write_example(tmp_path / "last"))
    data[-1] ^= 1
    (tmp_path / "last").write_bytes(data)
    tensors, state = read_tensors(tmp_path / "last", check=False)
    assert tensors["weight"].shape == (2, 3)
    assert state == {"step": 7}


def test_a_damaged_state_is_noticed(tmp_path: Path):
    path = tmp_path / "last"
    data = write_example(path)
    path.write_bytes(data.replace(b'\\"step\\": 7', b'\\"step\\": 8'))
    assert "the checksum does not agree" in error_of_reading(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sha256": "", "state": 1}'])
def test_a_state_that_cannot_be_read_is_damage_even_unchecked(tmp_path: Path, text: str):
    path = tmp_path / "last"
    save_file({}, path, {"regard": text})
    assert error_of_reading(path, check=False) == (
        f"{path}: damaged: the state cannot be read.  {RESTORE}"
    )


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_example(tmp_path_factory.mktemp("example") / "last")


@given(st.data())
def test_a_changed_byte_is_an_error_or_changes_nothing(example: bytes, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last"
        content = bytearray(example)
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        try:
            tensors, state = read_tensors(path)
        except RegardError as error:
            assert isinstance(error, WeightsError)
        else:
            assert list(tensors) == ["weight"]
            assert torch.equal(tensors["weight"], torch.arange(6.0).view(2, 3))
            assert state == {"step": 7}


@given(st.binary(max_size=200), st.booleans())
def test_any_other_bytes_are_a_weights_error(content: bytes, with_length: bool):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last"
        length = len(content).to_bytes(8, "little") if with_length else b""
        path.write_bytes(length + content)
        with pytest.raises(WeightsError, match=f"^{re.escape(str(path))}: "):
            read_tensors(path)


def test_a_text_file_is_no_safetensors_file(tmp_path: Path):
    path = tmp_path / "pairs.tsv"
    path.write_text("Good morning\tGuten Morgen\n")
    assert error_of_reading(path) == (
        f"{path}: not a safetensors file, it begins with b'Good morn'."
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_with_a_way_to_convert_it(tmp_path: Path, zipped: bool):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    message = error_of_reading(path)
    assert message == (
        f"{path}: a pickle, as torch.save writes it.  Opening one can run any program, so only "
        '.safetensors is read.  Convert a file that you trust: python -c "import torch, '
        f"safetensors.torch as s; s.save_file(torch.load('{path}', weights_only=True), "
        "'weights.safetensors')\""
    )


def test_the_way_to_convert_a_pickle_works(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.ones(3)}, "model.pt")
    code = re.search(r'python -c "(.*)"', error_of_reading(Path("model.pt")))
    assert code
    exec(code[1])
    tensors, state = read_tensors(Path("weights.safetensors"), check=False)
    assert torch.equal(tensors["weight"], torch.ones(3))
    assert state == {}


def test_a_foreign_safetensors_file_has_no_checksum(tmp_path: Path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    assert error_of_reading(path) == f"{path}: has no checksum, so regard did not write it."
    assert read_tensors(path, check=False)[1] == {}
