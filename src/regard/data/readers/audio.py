"""Recordings: WAV files, and their log-mel frames.

A frame is the power spectrum of a short Hann window, summed over mel bands: triangles of unit area
on the mel scale of Slaney's Auditory Toolbox (technical report 1998-010, Interval Research), which
is linear below 1000 Hz and logarithmic above. librosa has the same by default.
Cost: O(log fft_size + num_bands) operations a sample, times fft_size / hop_size.
"""

from __future__ import annotations

import math
import shlex
import struct
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.errors import ConfigError, DataError, ShapeError
from regard.settings.binding import check_types
from regard.settings.validation import require_at_least, require_at_most

if TYPE_CHECKING:
    from regard.data.readers.embedded_file import FileLike

_HZ_PER_MEL = 200.0 / 3.0  # Slaney 1998: below the break the scale is linear
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0  # from 1000 to 6400 Hz in 27 steps
_SMALLEST_POWER = 1e-10  # below the rounding of 16-bit samples
_SMALLEST_STD = 1e-5  # a constant band becomes zero
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # WAVE_FORMAT_PCM, _IEEE_FLOAT, _EXTENSIBLE
_RIFF_BYTES, _CHUNK_BYTES = 12, 8  # of their headers
_UNKNOWN_LENGTH = 0x7FFF0000  # SoX writes 0x7FFFF000 less its header, FFmpeg 0xFFFFFFFF
_HEADER_BYTES = 4096
_MAX_RATE = 4_000_000  # samples a second, more than recorders of ultrasound have
_MAX_WIDTH = 4  # bytes of a PCM sample
_FLOAT_BITS = (32, 64)
_LARGEST_TRANSFORM = 1 << 18  # samples, a window of 0.3 s at the highest rate
_MOST_BANDS = 1_024


class Recording(NamedTuple):
    """The sound in a WAV file.

    Args:
        samples: ``[samples]`` float32 from -1 to 1, the mean of all channels.
        sample_rate: Samples a second.
    """

    samples: Tensor
    sample_rate: int


class LogMelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a recording becomes frames; the defaults are windows of 25 ms, every 10 ms.

    Args:
        sample_rate: Samples a second.
        window_size: Samples of a window, at most `fft_size`.
        hop_size: Samples from one window to the next.
        fft_size: Samples of the Fourier transform; a shorter window is in the middle of them.
        num_bands: Mel bands, the size of a frame.
        low_hz: Lower edge of the first band, 0 or more.
        high_hz: Upper edge of the last band, at most half of `sample_rate`, the default.
        is_standardized: Whether each band is brought to mean 0 and variance 1 over a recording
            (Viikki & Laurila 1998), so that loudness and microphone matter less.
    """

    sample_rate: int = 16_000
    window_size: int = 400
    hop_size: int = 160
    fft_size: int = 512
    num_bands: int = 40
    low_hz: float = 0.0
    high_hz: float | None = None
    is_standardized: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        names = ("sample_rate", "window_size", "hop_size", "fft_size", "num_bands")
        require_at_least(1, self, *names)
        require_at_most(_LARGEST_TRANSFORM, self, "fft_size")
        require_at_most(_MOST_BANDS, self, "num_bands")
        if self.window_size > self.fft_size:
            raise ValueError(
                f"window_size must be at most fft_size ({self.fft_size}), not {self.window_size}"
            )
        if not 0 <= self.low_hz < self.top_hz():
            raise ValueError(
                f"low_hz must be 0 or more and below high_hz ({self.top_hz():g}), "
                f"not {self.low_hz:g}"
            )
        if self.top_hz() > self.sample_rate / 2:
            raise ValueError(
                f"high_hz must be at most half of sample_rate ({self.sample_rate / 2:g}), "
                f"not {self.top_hz():g}"
            )

    def top_hz(self) -> float:
        """Return the upper edge of the last band, in Hz."""
        return self.sample_rate / 2 if self.high_hz is None else self.high_hz

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a recording.

        >>> LogMelConfig().num_frames(16_000)
        101
        """
        # The transform is centred on every hop; an odd size reaches one sample less far.
        return 1 + (num_samples + 2 * (self.fft_size // 2) - self.fft_size) // self.hop_size


def log_mel_config_of(sample_rate: int) -> LogMelConfig:
    """Return settings for windows of 25 ms, every 10 ms, at any sample rate.

    >>> log_mel_config_of(8_000).window_size, log_mel_config_of(44_100).fft_size
    (200, 2048)
    """
    window_size = max(1, round(0.025 * sample_rate))
    return LogMelConfig(
        sample_rate=sample_rate,
        window_size=window_size,
        hop_size=max(1, round(0.01 * sample_rate)),
        fft_size=1 << (window_size - 1).bit_length(),
    )


def read_sample_rate(path: FileLike) -> int | None:
    """Return the sample rate of a WAV file by its first bytes; None if they do not hold it."""
    from regard.data.readers.embedded_file import open_file_like

    with open_file_like(path) as stream:
        head = stream.read(_HEADER_BYTES)
    start = head.find(b"fmt ", 12) + 8
    rate = head[start + 4 : start + 8]
    return int.from_bytes(rate, "little") if start >= 20 and len(rate) == 4 else None


def read_log_mel(path: FileLike, config: LogMelConfig = LogMelConfig()) -> Tensor:  # noqa: B008
    """Return the log-mel frames of a WAV file, ``[frames, num_bands]`` float32."""
    recording = read_wav(path, sample_rate=config.sample_rate)
    frames = log_mel(recording.samples, config)
    return standardized(frames) if config.is_standardized else frames


def read_wav(path: FileLike, *, sample_rate: int | None = None) -> Recording:
    """Read a WAV file of 8- to 32-bit PCM or floating point; several channels are averaged.

    Args:
        path: The file.
        sample_rate: Sample rate that it must have, since nothing is resampled; None accepts any.

    Returns:
        Samples, ``[samples]`` float32, and their rate. Those of floating point may be beyond -1
        and 1.

    Raises:
        DataError: The file is missing, cut short, empty, not a WAV file of these formats, or of
            another sample rate, or a sample is not a finite number.
    """
    from regard.data.readers.embedded_file import read_file_like

    content = read_file_like(path)
    try:
        wav = _parse(content)
    except (struct.error, ValueError) as error:
        cause = "it ends within its header" if isinstance(error, struct.error) else str(error)
        raise DataError(
            f"{path}: not a WAV file of 8- to 32-bit PCM or floating point ({cause}).  "
            f"{_advise(path, 'Convert', '-c:a pcm_s16le')}"
        ) from error
    num_read = len(wav.raw) // wav.format.block
    if num_read < wav.num_frames:
        raise DataError(
            f"{path}: {num_read:,} samples, its header says {wav.num_frames:,}.  "
            "File cut short?  Copy it again."
        )
    if not num_read:
        raise DataError(f"{path}: the recording is empty.  Leave it out.")
    rate = wav.format.sample_rate
    if sample_rate not in (None, rate):
        raise DataError(
            f"{path}: {rate:,} samples a second, {sample_rate:,} expected.  "
            f"Nothing is resampled here.  {_advise(path, 'Resample', f'-ar {sample_rate}')}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused below
        values = _decode(wav.raw, wav.format).reshape(-1, wav.format.num_channels)
        samples = values.mean(axis=1).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(samples))
    if len(bad):
        raise DataError(
            f"{path}: sample {bad[0] + 1:,} is {values[bad[0]].tolist()}, not a finite number.  "
            "Leave the recording out."
        )
    return Recording(torch.from_numpy(samples), rate)


def log_mel(samples: Tensor, config: LogMelConfig = LogMelConfig()) -> Tensor:  # noqa: B008
    """Compute log-mel frames: ``log(filters |STFT|^2)``, in natural logarithms.

    Args:
        samples: ``[samples]`` or ``[batch, samples]``, floating point; they are padded with zeros
            on both sides, so that zeros after them add frames and change none.
        config: How they become frames; frame i is centred on sample ``i * hop_size``.

    Returns:
        ``[frames, num_bands]`` or ``[batch, frames, num_bands]``, of the type of `samples`.

    Raises:
        ShapeError: There are no samples, or they are not a vector or matrix of real numbers.
    """
    if samples.dim() not in (1, 2) or not samples.shape[-1] or not samples.is_floating_point():
        raise ShapeError(
            f"samples are {list(samples.shape)} {str(samples.dtype).removeprefix('torch.')}; "
            "[samples] or [batch, samples] of floating-point numbers are expected, one or more."
        )
    options = {"dtype": samples.dtype, "device": samples.device}
    spectrum = torch.stft(
        samples,
        config.fft_size,
        hop_length=config.hop_size,
        win_length=config.window_size,
        window=torch.hann_window(config.window_size, **options),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()  # [..., frequencies, frames]
    bands = mel_filters(config).to(**options) @ power  # [..., num_bands, frames]
    return bands.clamp(min=_SMALLEST_POWER).log().mT  # [..., frames, num_bands]


def standardized(frames: Tensor) -> Tensor:
    """Return frames with mean 0 and variance 1 in each band, of shape ``[frames, num_bands]``."""
    centred = frames - frames.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp(min=_SMALLEST_STD)


def mel_filters(config: LogMelConfig) -> Tensor:
    """Return the weights of frequencies in mel bands: a triangle of unit area for each band.

    Band b rises from edge b to edge b + 1 and falls to edge b + 2; edges are evenly spaced in mel.
    Its height is ``2 / (edge b + 2 - edge b)``, in Hz.

    Returns:
        A tensor of shape ``[num_bands, fft_size // 2 + 1]``, float64.

    Raises:
        ConfigError: A band is too narrow to hold a frequency.
    """
    frequencies = torch.arange(config.fft_size // 2 + 1, dtype=torch.float64)
    frequencies *= config.sample_rate / config.fft_size
    low, high = hz_to_mel(torch.tensor([config.low_hz, config.top_hz()], dtype=torch.float64))
    steps = torch.linspace(0.0, 1.0, config.num_bands + 2, dtype=torch.float64)
    edges = mel_to_hz(low + (high - low) * steps)
    left, centre, right = (edges[i : i + config.num_bands, None] for i in range(3))
    rising = (frequencies - left) / (centre - left)
    falling = (right - frequencies) / (right - centre)
    filters = torch.minimum(rising, falling).clamp(min=0.0) * 2.0 / (right - left)
    if not bool((filters > 0).any(1).all()):
        raise ConfigError(
            f"num_bands={config.num_bands}: some bands lie between two frequencies of "
            f"fft_size={config.fft_size}.  Take fewer bands or a larger fft_size."
        )
    return filters


def hz_to_mel(hz: Tensor) -> Tensor:
    """Return frequencies in mels on Slaney's scale, a tensor of any shape ``(..., n)``.

    >>> hz_to_mel(torch.tensor([200.0, 1000.0, 6400.0]))
    tensor([ 3., 15., 42.])
    """
    above = _BREAK_MEL + (hz.clamp(min=_BREAK_HZ) / _BREAK_HZ).log() / _LOG_STEP
    return torch.where(hz < _BREAK_HZ, hz / _HZ_PER_MEL, above)


def mel_to_hz(mel: Tensor) -> Tensor:
    """Return mels on Slaney's scale as frequencies in Hz, a tensor of any shape ``(..., n)``."""
    above = _BREAK_HZ * (_LOG_STEP * (mel.clamp(min=_BREAK_MEL) - _BREAK_MEL)).exp()
    return torch.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, above)


class _Format(NamedTuple):
    """What the samples of a WAV file are."""

    num_channels: int
    sample_rate: int
    width: int  # bytes of a sample
    is_float: bool

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels."""
        return self.width * self.num_channels


class _Wav(NamedTuple):
    """Header and samples of a WAV file."""

    format: _Format
    num_frames: int  # by the header
    raw: bytes


def _parse(content: bytes) -> _Wav:
    """Return header and samples of a WAV file.

    Its chunks are an identifier, a 32-bit length, content, and padding to 16 bits. The standard
    library's `wave` reads neither the extended header nor files from a pipe: a program that writes
    to one does not know the length of the samples, and writes 0 or about 2^31 to 2^32.

    Raises:
        ValueError: It is not a WAV file of these formats.
        struct.error: It ends within its header.
    """
    riff, whole, kind = struct.unpack_from("<4sI4s", content)
    if (riff, kind) != (b"RIFF", b"WAVE"):
        raise ValueError("it does not begin with RIFF and WAVE")
    wav_format, length = None, 0
    start, name = _RIFF_BYTES, b""
    while name != b"data":
        name, length = struct.unpack_from("<4sI", content, start)
        start += _CHUNK_BYTES
        if name == b"fmt ":
            wav_format = _parse_format(content, start, length)
        if name != b"data":
            start += length + length % 2
    if wav_format is None:
        raise ValueError("data chunk before fmt chunk")
    size = wav_format.block
    is_cut_short = whole + _CHUNK_BYTES != len(content)
    length = _length_of_samples(content[start:], length, is_cut_short=is_cut_short)
    raw = content[start : start + length]
    return _Wav(wav_format, length // size, raw[: len(raw) // size * size])


def _length_of_samples(content: bytes, length: int, *, is_cut_short: bool) -> int:
    """Return how many bytes of samples there are, by the header or where it does not say it.

    Args:
        content: The samples and what follows them.
        length: Their length in bytes by the header.
        is_cut_short: Whether the file has another length than its header says.

    Raises:
        ValueError: More bytes follow the samples than they have, and these are no chunks.
    """
    if length >= _UNKNOWN_LENGTH or (length, is_cut_short) == (0, True):
        return len(content)
    behind = content[length + length % 2 :]
    if len(behind) <= length or _are_chunks(behind):
        return length
    if length == 0:
        return len(content)
    raise ValueError(
        f"its header says {length:,} bytes of samples, {len(behind):,} bytes follow them"
    )


def _are_chunks(content: bytes) -> bool:
    """Return whether bytes are whole chunks, such as the tags behind samples; also if empty."""
    start = 0
    while start + _CHUNK_BYTES <= len(content):
        name, length = struct.unpack_from("<4sI", content, start)
        if not (name.isascii() and name.decode().isprintable()):
            return False
        start += _CHUNK_BYTES + length + length % 2
    return start in (len(content), len(content) + 1)


def _parse_format(content: bytes, start: int, length: int) -> _Format:
    """Return what a ``fmt`` chunk says of the samples."""
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", content, start)
    if start + length > len(content):
        raise ValueError(f"its header has a part of {length:,} bytes, the file {len(content):,}")
    if tag == _EXTENSIBLE:  # the sub-format begins with the tag of the format
        tag = struct.unpack_from("<H", content, start + 24)[0]
    if tag not in (_PCM, _FLOAT):
        raise ValueError(f"unknown format: {tag}")
    if not channels or not rate or not bits:
        raise ValueError(f"{channels} channels, {rate} samples a second, {bits} bits a sample")
    if rate > _MAX_RATE:
        raise ValueError(f"its header says {rate:,} samples a second")
    if tag == _PCM:
        return _Format(channels, rate, _width_of_sample(bits, channels, block), is_float=False)
    if bits not in _FLOAT_BITS or block != channels * bits // 8:
        raise ValueError(f"{channels} x {bits} bits of floating point in blocks of {block} bytes")
    return _Format(channels, rate, bits // 8, is_float=True)


def _width_of_sample(bits: int, channels: int, block: int) -> int:
    """Return the bytes of a PCM sample; those of 24 bits may be the upper ones of 32.

    Args:
        bits: Bits of a sample that are used.
        channels: Number of channels.
        block: Bytes of one sample of all channels.

    Raises:
        ValueError: A sample is too wide, or the block does not hold one of each channel.
    """
    least = (bits + 7) // 8
    if least > _MAX_WIDTH:
        raise ValueError(f"{bits} bits a sample")
    width, rest = divmod(block, channels)
    if rest or not least <= width <= _MAX_WIDTH:
        raise ValueError(f"{channels} x {bits} bits in blocks of {block} bytes")
    return width


def _decode(raw: bytes, wav_format: _Format) -> NDArray[np.float64]:
    """Return little-endian samples as ``[samples]``; those of PCM are from -1 to 1."""
    width = wav_format.width
    if wav_format.is_float:
        return np.frombuffer(raw, f"<f{width}").astype(np.float64)
    narrow = np.frombuffer(raw, np.uint8).reshape(-1, width)
    wide = np.zeros((len(narrow), _MAX_WIDTH), np.uint8)
    wide[:, _MAX_WIDTH - width :] = narrow
    if width == 1:  # only 8 bits are stored without a sign, silence at 128
        wide[:, -1] ^= 0x80
    return wide.view("<i4")[:, 0] / 2.0**31


def _advise(path: FileLike, what: str, options: str) -> str:
    """Return what to do about a recording, with the command that converts it."""
    from regard.data.readers.embedded_file import advise_conversion

    command = f"ffmpeg -i {shlex.quote(str(path))} {options} fixed.wav"
    return advise_conversion(path, f"{what}: {command}")
