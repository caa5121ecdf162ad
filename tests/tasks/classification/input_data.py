"""Small labeled images, recordings and series for the tests."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np


def write_wav(path: Path, samples: np.ndarray, rate: int = 8_000) -> None:
    """Write samples from -1 to 1 as 16-bit PCM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32_000).astype("<i2").tobytes())


def write_words(folder: Path, num: int = 24, seconds: float = 0.25, seed: int = 1) -> Path:
    """Write "words": a low tone, a high tone, a rising chirp, each in noise, of uneven lengths."""
    generator = np.random.default_rng(seed)
    for label in ("low", "high", "rising"):
        for number in range(num):
            length = int(8_000 * seconds * generator.uniform(0.6, 1.0))
            time = np.arange(length) / 8_000
            hz = {"low": 300.0, "high": 2_000.0, "rising": 300 + 3_000 * time}[label]
            sound = np.sin(2 * np.pi * hz * generator.uniform(0.85, 1.15) * time)
            noisy = 0.3 * sound + 0.1 * generator.normal(size=length)
            write_wav(folder / label / f"{number}.wav", noisy.clip(-1, 1))
    return folder


def write_waves(path: Path, num: int = 60, length: int = 32, seed: int = 1) -> Path:
    """Write sines, saws and squares in noise, one a row, of uneven lengths."""
    generator = np.random.default_rng(seed)
    lines = ["label," + ",".join(f"x{number}" for number in range(length))]
    for number in range(num):
        label = ("sine", "saw", "square")[number % 3]
        count = int(generator.integers(3 * length // 4, length + 1))
        turn = generator.uniform(0.15, 0.3) * np.arange(count) + generator.uniform()
        wave_ = {
            "sine": np.sin(2 * np.pi * turn),
            "saw": 2 * (turn % 1) - 1,
            "square": np.sign(np.sin(2 * np.pi * turn)),
        }[label]
        cells = (f"{value:.3f}" for value in wave_ + 0.1 * generator.normal(size=count))
        lines.append(f"{label}," + ",".join(cells))
    path.write_text("\n".join(lines) + "\n")
    return path


def draw_bars(num: int, seed: int = 1) -> tuple[np.ndarray, list[str]]:
    """Draw lying and standing bars in noise: ``[images, 8, 8]`` bytes, and their labels."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 60, (num, 8, 8), dtype=np.uint8)
    labels = []
    for image in images:
        is_lying, at = generator.uniform() < 0.5, int(generator.integers(0, 8))
        bar = image[at] if is_lying else image[:, at]
        bar += 150
        labels.append("lying" if is_lying else "standing")
    return images, labels
