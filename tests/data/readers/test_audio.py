from __future__ import annotations

import math
import re
import struct
import wave

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from regard.data.readers.audio import (
    LogMelConfig,
    hz_to_mel,
    log_mel,
    mel_filters,
    mel_to_hz,
    read_log_mel,
    read_wav,
    standardized,
)
from regard.errors import ConfigError, DataError, ShapeError

GUID_END = bytes.fromhex("000000001000800000aa00389b71")  # of every sub-format


def write_wav(path, samples, *, width=2, rate=16_000):
    """Write samples ``[frames, channels]`` of full-scale integers of the width."""
    samples = np.asarray(samples, dtype=np.int64)
    samples = samples[:, None] if samples.ndim == 1 else samples
    shifted = samples + 128 if width == 1 else samples
    raw = b"".join(
        int(value).to_bytes(width, "little", signed=width > 1) for value in shifted.ravel()
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return path


def tone(hz, num_samples=4_000, rate=16_000):
    return torch.sin(2 * math.pi * hz / rate * torch.arange(num_samples, dtype=torch.float64))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_every_width_are_read_to_the_last_bit(tmp_path, width):
    full = 1 << (8 * width - 1)
    values = [0, 1, -1, full - 1, -full, full // 2, -full // 4, 37 % full]
    found = read_wav(write_wav(tmp_path / "a.wav", values, width=width))
    assert found.sample_rate == 16_000
    assert found.samples.dtype == torch.float32
    expected = torch.tensor([value / full for value in values], dtype=torch.float64).float()
    assert torch.equal(found.samples, expected)


@pytest.mark.slow
@given(st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=40))
def test_24_bit_samples_are_read_exactly(tmp_path_factory, values):
    path = write_wav(tmp_path_factory.mktemp("wav") / "a.wav", values, width=3)
    assert (read_wav(path).samples.double() * 2**23).tolist() == values


def test_channels_are_averaged(tmp_path):
    path = write_wav(tmp_path / "a.wav", [[100, 300], [-32768, 32767], [0, 8]])
    expected = torch.tensor([200 / 32768, -0.5 / 32768, 4 / 32768])
    torch.testing.assert_close(read_wav(path).samples, expected, rtol=0, atol=0)


def test_another_sample_rate_is_refused(tmp_path):
    path = write_wav(tmp_path / "a b.wav", [1, 2], rate=44_100)
    assert read_wav(path, sample_rate=44_100).sample_rate == 44_100
    with pytest.raises(DataError) as caught:
        read_wav(path, sample_rate=16_000)
    assert str(caught.value) == (
        f"{path}: 44,100 samples a second, 16,000 expected.  Nothing is resampled here.  "
        f"Resample: ffmpeg -i '{path}' -ar 16000 fixed.wav"
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError) as caught:
        read_wav(tmp_path / "a.wav")
    assert str(caught.value) == f"{tmp_path / 'a.wav'}: no such file."


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        read_wav(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: a directory, not a file.")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "it ends within its header"),
        (b"RIFF", "it ends within its header"),
        (b"ID3\x04 and the rest of an MP3 file", "it does not begin with RIFF and WAVE"),
    ],
)
def test_a_file_that_is_not_a_wav_file_is_refused(tmp_path, content, cause):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_wav(path)
    assert str(caught.value) == (
        f"{path}: not a WAV file of 8- to 32-bit PCM or floating point ({cause}).  "
        f"Convert: ffmpeg -i {path} -c:a pcm_s16le fixed.wav"
    )


def write_float(path, samples, *, bits=32, rate=16_000):
    """Write samples ``[frames, channels]`` of floating point."""
    samples = np.asarray(samples, dtype=f"<f{bits // 8}")
    block = bits // 8 * samples.shape[1]
    head = struct.pack("<HHIIHH", 3, samples.shape[1], rate, rate * block, block, bits)
    parts = {b"fmt ": head, b"fact": struct.pack("<I", len(samples)), b"data": samples.tobytes()}
    body = b"".join(name + struct.pack("<I", len(part)) + part for name, part in parts.items())
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    return path


@pytest.mark.parametrize("bits", [32, 64])
def test_samples_of_floating_point_are_read_and_their_channels_averaged(tmp_path, bits):
    path = write_float(tmp_path / "a.wav", [[0.5, 0.25], [-1.5, 1.0], [1e-30, 0.0]], bits=bits)
    assert read_wav(path).samples.tolist() == pytest.approx([0.375, -0.25, 5e-31], rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
def test_a_sample_that_is_not_a_finite_number_is_refused_by_its_place(tmp_path, bad):
    path = write_float(tmp_path / "a.wav", [[0.0], [bad]], bits=64)
    with pytest.raises(DataError, match=rf"a\.wav: sample 2 is \[{re.escape(str(bad))}\], not a"):
        read_wav(path)


@pytest.mark.parametrize(("bits", "block"), [(16, 2), (32, 8), (80, 10)])
def test_floating_point_of_another_width_is_refused(tmp_path, bits, block):
    path = with_block(write_float(tmp_path / "a.wav", [[0.0]] * 20), bits, block)
    with pytest.raises(DataError, match=rf"1 x {bits} bits of floating point in blocks of {block}"):
        read_wav(path)


@pytest.mark.parametrize("tag", [2, 6, 85])  # ADPCM, A-law, MP3
def test_other_formats_are_refused_by_their_number(tmp_path, tag):
    path = write_wav(tmp_path / "a.wav", [1, 2])
    content = bytearray(path.read_bytes())
    content[20:22] = struct.pack("<H", tag)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"floating point \(unknown format: {tag}\)"):
        read_wav(path)


def extended(path, subformat):
    """Give a WAV file the longer header that most programs write for 24 and 32 bits."""
    content = path.read_bytes()
    rest = struct.pack("<HHIH", 22, 8 * content[32] // content[22], 0, subformat) + GUID_END
    head = b"fmt " + struct.pack("<I", 40) + b"\xfe\xff" + content[22:36] + rest
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content) + 16) + b"WAVE" + head + content[36:])
    return path


def test_an_extended_header_is_read(tmp_path):
    values = [[1, 3], [-(2**23), 2**23 - 2], [5, 5]]
    path = extended(write_wav(tmp_path / "a.wav", values, width=3), subformat=1)
    assert (read_wav(path).samples.double() * 2**23).tolist() == [2.0, -1.0, 5.0]


def test_floating_point_of_an_extended_header_is_read(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.array([0.5, -0.25], "<f4").view("<i4"), width=4)
    assert read_wav(extended(path, subformat=3)).samples.tolist() == [0.5, -0.25]


def with_block(path, bits, block):
    """Change the bits of a sample and the bytes of a block in the header of a file."""
    content = bytearray(path.read_bytes())
    content[32:36] = struct.pack("<HH", block, bits)
    path.write_bytes(content)
    return path


def test_samples_of_24_bits_in_four_bytes_are_read(tmp_path):
    values = [[256, 3 << 8], [-(2**31), 2**31 - 256], [5 << 8, 5 << 8]]
    path = with_block(write_wav(tmp_path / "a.wav", values, width=4), bits=24, block=8)
    assert (read_wav(path).samples.double() * 2**23).tolist() == [2.0, -0.5, 5.0]


@pytest.mark.parametrize(("bits", "block"), [(24, 4), (16, 3), (16, 0), (8, 10)])
def test_blocks_that_do_not_hold_a_sample_of_each_channel_are_refused(bits, block, tmp_path):
    path = with_block(write_wav(tmp_path / "a.wav", [[1, 2]] * 60), bits, block)
    with pytest.raises(DataError, match=f"2 x {bits} bits in blocks of {block} bytes"):
        read_wav(path)


def test_samples_of_64_bits_are_refused(tmp_path):
    path = write_wav(tmp_path / "a.wav", [1, 2], width=4)
    content = bytearray(path.read_bytes())
    content[34:36] = struct.pack("<H", 64)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"32-bit PCM or floating point \(64 bits a sample\)"):
        read_wav(path)


def test_a_file_cut_short_is_refused(tmp_path):
    path = write_wav(tmp_path / "a.wav", [1, 2, 3, 4, 5])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError) as caught:
        read_wav(path)
    assert str(caught.value) == (
        f"{path}: 2 samples, its header says 5.  File cut short?  Copy it again."
    )


def test_an_empty_recording_is_refused(tmp_path):
    path = write_wav(tmp_path / "a.wav", [])
    with pytest.raises(DataError) as caught:
        read_wav(path)
    assert str(caught.value) == f"{path}: the recording is empty.  Leave it out."


@pytest.mark.parametrize("lengths", [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (0x7FFFF024, 0x7FFFF000)])
def test_a_recording_from_a_pipe_takes_the_length_of_its_file(tmp_path, lengths):
    path = write_wav(tmp_path / "a.wav", [1, 2, 3, 4, 5])
    samples = read_wav(path).samples.tolist()
    content = bytearray(path.read_bytes())
    content[4:8], content[40:44] = (struct.pack("<I", length) for length in lengths)
    path.write_bytes(content)
    assert read_wav(path).samples.tolist() == samples


@pytest.mark.parametrize(("behind", "num_samples"), [(b"", 0), (b"\x11\x01" * 6, 6)])
def test_a_length_of_zero_counts_where_only_other_chunks_follow(tmp_path, behind, num_samples):
    path = write_wav(tmp_path / "a.wav", [])
    content = path.read_bytes() + behind
    content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    path.write_bytes(content)
    if num_samples:
        assert len(read_wav(path).samples) == num_samples
    else:
        with pytest.raises(DataError, match="the recording is empty"):
            read_wav(path)
    tags = b"LIST" + struct.pack("<I", 4) + b"INFO"
    content = content[: len(content) - len(behind)] + tags
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    with pytest.raises(DataError, match="the recording is empty"):
        read_wav(path)


def test_samples_behind_those_of_the_header_are_not_passed_over(tmp_path):
    path = write_wav(tmp_path / "a.wav", range(100))
    content = path.read_bytes()
    path.write_bytes(content[:40] + struct.pack("<I", 20) + content[44:])
    with pytest.raises(DataError, match="says 20 bytes of samples, 180 bytes follow them"):
        read_wav(path)
    path.write_bytes(content + b"TAG" + bytes(125))  # what other programs put at the end
    assert len(read_wav(path).samples) == 100


def test_a_header_with_an_impossible_sample_rate_is_named(tmp_path):
    path = write_wav(tmp_path / "a.wav", [1, 2, 3])
    content = path.read_bytes()
    path.write_bytes(content[:24] + struct.pack("<I", 0xFFFFFFFF) + content[28:])
    with pytest.raises(DataError, match="its header says 4,294,967,295 samples a second"):
        read_wav(path)


def test_a_header_that_lies_about_its_own_length_is_named(tmp_path):
    path = write_wav(tmp_path / "a.wav", [1, 2])
    content = bytearray(path.read_bytes())
    content[16:20] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"its header has a part of 2,147,483,648 bytes, the file"):
        read_wav(path)


@pytest.mark.parametrize(("start", "end"), [(22, 24), (24, 28), (34, 36)])
def test_a_header_without_channels_rate_or_bits_is_named(tmp_path, start, end):
    path = write_wav(tmp_path / "a.wav", [1, 2])
    content = bytearray(path.read_bytes())
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"channels, .* samples a second, .* bits a sample"):
        read_wav(path)


def test_chunks_around_the_samples_are_passed_over(tmp_path):
    path = write_wav(tmp_path / "a.wav", [1, 2, 3])
    content = path.read_bytes()
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    path.write_bytes(content[:36] + odd + content[36:] + odd)
    assert len(read_wav(path).samples) == 3


def test_the_mel_scale_has_the_values_of_slaneys():
    hz = torch.tensor([0.0, 100.0, 1000.0, 1000.0 * 6.4 ** (1 / 27), 6400.0], dtype=torch.float64)
    mel = torch.tensor([0.0, 1.5, 15.0, 16.0, 42.0], dtype=torch.float64)
    torch.testing.assert_close(hz_to_mel(hz), mel)
    torch.testing.assert_close(mel_to_hz(mel), hz)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_bands": 80},
        {"sample_rate": 22_050, "fft_size": 2048, "num_bands": 128},
        {"low_hz": 64.0, "high_hz": 7_600.0},
        {"sample_rate": 8_000, "window_size": 201, "fft_size": 257, "num_bands": 20},
    ],
)
def test_mel_filters_are_those_of_librosa(changes):
    filters = pytest.importorskip("librosa.filters")
    config = LogMelConfig(**changes)
    expected = filters.mel(
        sr=config.sample_rate,
        n_fft=config.fft_size,
        n_mels=config.num_bands,
        fmin=config.low_hz,
        fmax=config.top_hz(),
        dtype=np.float64,
    )
    torch.testing.assert_close(mel_filters(config), torch.from_numpy(expected), rtol=0, atol=1e-15)


def test_a_filter_is_the_triangle_of_its_formula():
    # Below 1000 Hz mels are Hz: 4 bands of 0 to 1000 Hz have their edges 200 Hz apart.
    config = LogMelConfig(sample_rate=2_000, window_size=40, fft_size=40, hop_size=20, num_bands=4)
    hz = 50.0 * torch.arange(21, dtype=torch.float64)
    for band, centre in enumerate((200.0, 400.0, 600.0, 800.0)):
        triangle = (1.0 - (hz - centre).abs() / 200.0).clamp(min=0.0) / 200.0
        torch.testing.assert_close(mel_filters(config)[band], triangle, rtol=0, atol=1e-15)


def test_a_filter_has_unit_area():
    config = LogMelConfig(fft_size=1 << 15)
    areas = mel_filters(config).sum(1) * config.sample_rate / config.fft_size
    torch.testing.assert_close(areas, torch.ones_like(areas), rtol=1e-3, atol=0)


def test_bands_between_two_frequencies_are_refused():
    with pytest.raises(ConfigError) as caught:
        mel_filters(LogMelConfig(num_bands=200))
    assert str(caught.value) == (
        "num_bands=200: some bands lie between two frequencies of fft_size=512.  "
        "Take fewer bands or a larger fft_size."
    )


def test_log_mel_frames_are_those_of_the_formula():
    config = LogMelConfig(window_size=30, hop_size=13, fft_size=64, num_bands=5)
    samples = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(30, dtype=torch.float64) / 30)
    padded = torch.cat([torch.zeros(32).double(), samples, torch.zeros(64).double()])
    time, rate = torch.arange(64, dtype=torch.float64), torch.arange(33, dtype=torch.float64)
    waves = torch.exp(-2j * math.pi * rate[:, None] * time / 64)
    frames = log_mel(samples, config)
    assert len(frames) == 200 // 13 + 1
    for number, frame in enumerate(frames):
        piece = padded[13 * number : 13 * number + 64].clone()
        piece[:17] = piece[47:] = 0.0
        piece[17:47] *= window
        power = (waves @ piece.to(torch.complex128)).abs().square()
        torch.testing.assert_close(frame, (mel_filters(config) @ power).log())


@pytest.mark.parametrize("fft_size", [32, 33])
@pytest.mark.parametrize("num_samples", [1, 15, 16, 17, 32, 100])
def test_the_number_of_frames_is_that_of_num_frames(num_samples, fft_size):
    config = LogMelConfig(window_size=32, hop_size=16, fft_size=fft_size, num_bands=2)
    assert len(log_mel(torch.randn(num_samples), config)) == config.num_frames(num_samples)


def test_a_batch_gives_the_frames_of_its_rows():
    samples = torch.randn(3, 1_000, dtype=torch.float64)
    rows = torch.stack([log_mel(row) for row in samples])
    torch.testing.assert_close(log_mel(samples), rows)


def test_zeros_after_a_recording_change_none_of_its_frames():
    samples = tone(440.0)
    padded = torch.cat([samples, torch.zeros(999, dtype=torch.float64)])
    frames = log_mel(samples)
    torch.testing.assert_close(log_mel(padded)[: len(frames)], frames)


@pytest.mark.parametrize("hz", [300.0, 1_000.0, 3_000.0])
def test_a_tone_is_loudest_in_its_own_band(hz):
    config = LogMelConfig()
    band = int(log_mel(tone(hz), config)[10].argmax())
    step = float(hz_to_mel(torch.tensor(8_000.0))) / (config.num_bands + 1)
    assert abs(float(hz_to_mel(torch.tensor(hz))) - (band + 1) * step) <= step


def test_silence_has_finite_frames_and_no_slope():
    samples = torch.zeros(500, requires_grad=True)
    frames = log_mel(samples)
    assert bool(frames.isfinite().all())
    assert bool(standardized(frames).isfinite().all())
    frames.sum().backward()
    assert samples.grad is not None
    assert bool(samples.grad.isfinite().all())


def test_frames_are_differentiable_by_the_samples():
    config = LogMelConfig(window_size=8, hop_size=4, fft_size=8, num_bands=2)
    samples = torch.randn(20, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: log_mel(x, config), (samples,))


@pytest.mark.parametrize(
    "samples", [torch.zeros(0), torch.zeros(1, 2, 3), torch.zeros(5, dtype=torch.int16)]
)
def test_samples_of_the_wrong_form_are_refused(samples):
    with pytest.raises(ShapeError) as caught:
        log_mel(samples)
    kind = str(samples.dtype).removeprefix("torch.")
    assert str(caught.value) == (
        f"samples are {list(samples.shape)} {kind}; [samples] or [batch, samples] of "
        "floating-point numbers are expected, one or more."
    )


def test_a_file_is_read_as_standardized_frames(tmp_path):
    samples = (10_000 * tone(440.0) * torch.linspace(0, 1, 4_000)).long().tolist()
    path = write_wav(tmp_path / "a.wav", samples)
    frames = read_log_mel(path)
    assert frames.shape == (26, 40)
    torch.testing.assert_close(frames.mean(0), torch.zeros(40), rtol=0, atol=1e-5)
    torch.testing.assert_close(frames.square().mean(0), torch.ones(40), rtol=0, atol=1e-4)
    plain = read_log_mel(path, LogMelConfig(is_standardized=False))
    torch.testing.assert_close(standardized(plain), frames)
    torch.testing.assert_close(plain, log_mel(read_wav(path).samples))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_size": 0}, "hop_size must be 1 or more, not 0"),
        ({"window_size": 600}, "window_size must be at most fft_size (512), not 600"),
        ({"low_hz": -1.0}, "low_hz must be 0 or more and below high_hz (8000), not -1"),
        ({"high_hz": 0.0}, "low_hz must be 0 or more and below high_hz (0), not 0"),
        ({"high_hz": 9e3}, "high_hz must be at most half of sample_rate (8000), not 9000"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError) as caught:
        LogMelConfig(**changes)
    assert str(caught.value) == message
