"""Log-mel frames of a recording, which are the rows that a classifier of recordings reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BREAK_HZ, HZ_PER_MEL, LOG_STEP = 1000.0, 200 / 3, np.log(6.4) / 27  # Slaney 1998


def hz_to_mel(hz: NDArray) -> NDArray:
    """Return frequencies in mels, which are linear below 1000 Hz and logarithmic above."""
    above = BREAK_HZ / HZ_PER_MEL + np.log(np.maximum(hz, BREAK_HZ) / BREAK_HZ) / LOG_STEP
    return np.where(hz < BREAK_HZ, hz / HZ_PER_MEL, above)


def mel_to_hz(mel: NDArray) -> NDArray:
    """Return mels as frequencies in Hz."""
    first = BREAK_HZ / HZ_PER_MEL
    above = BREAK_HZ * np.exp(LOG_STEP * (np.maximum(mel, first) - first))
    return np.where(mel < first, mel * HZ_PER_MEL, above)


def log_mel(samples: NDArray, settings: dict[str, Any]) -> NDArray[np.float64]:
    """Return the frames of a recording, ``[frames, bands]``.

    Args:
        samples: Of one channel, -1 to 1, ``[samples]``.
        settings: The content of ``preprocessor_config.json``.
    """
    size, width, hop = (settings[name] for name in ("n_fft", "win_length", "hop_length"))
    window = np.zeros(size)
    start = (size - width) // 2
    window[start : start + width] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    padded = np.pad(np.asarray(samples, np.float64), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    power = np.abs(np.fft.rfft(frames * window)) ** 2  # [frames, frequencies]
    low, high = hz_to_mel(np.array([settings["fmin"], settings["fmax"]]))
    left, centre, right = (
        mel_to_hz(np.linspace(low, high, settings["feature_size"] + 2))[i : i - 2 or None, None]
        for i in range(3)
    )
    hz = np.arange(size // 2 + 1) * settings["sampling_rate"] / size
    triangles = np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre))
    bands = power @ (np.maximum(triangles, 0.0) * 2 / (right - left)).T  # [frames, bands]
    rows = np.log(np.maximum(bands, 1e-10))
    if settings["is_standardized"]:  # over the recording
        rows -= rows.mean(0)
        rows /= np.maximum(np.sqrt(np.square(rows).mean(0)), 1e-5)
    return rows
