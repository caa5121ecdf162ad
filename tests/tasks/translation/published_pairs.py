"""What the tests of published models that translate share: texts, sizes, runs that go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import write_tsv
from tests.models.published_weights import spread

import regard
from regard.runs.export_check import export_model
from regard.runs.run import resume, train
from regard.training.events import Saved, Started

ENGLISH = "the cat sees a dog and the dog sees a red house by the old river"
GERMAN = "die Katze sieht einen Hund und der Hund sieht ein rotes Haus am alten Fluss"
TEXTS = ["the dog sees the cat", "a red house", "the old river and the old cat by a house", "dog"]
SETTINGS = (
    "training.epochs=1",
    "training.batch_tokens=512",
    "training.precision=float32",
    "data.languages=en-de",
)
SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
}
"""Fields of the configuration that all published folders of the tests have."""


def load(folder: Path) -> Any:
    """Open a folder, whatever is in it."""
    return regard.load(folder)


def scale_up(model: torch.nn.Module, seed: int, *, end: int = 0, unknown: int = 1) -> None:
    """Draw weights; the end of a text is likely enough that some outputs end."""
    spread(model, gain=1.5, seed=seed)
    with torch.no_grad():
        bias = model.get_buffer("final_logits_bias")
        bias.normal_()
        bias[0, end] += seed / 2
        bias[0, unknown] += 4  # <unk> would stand in most outputs, were it not forbidden


def write_pairs(path: Path) -> Path:
    """Write pairs in words that the vocabularies of the folders were made of."""
    english, german = ENGLISH.split(), GERMAN.split()
    rows = []
    for number in range(240):
        start, length = number % len(english), 2 + number % 7
        source = (english * 2)[start : start + length]
        target = (german * 2)[start : start + length]
        rows.append((f"{' '.join(source)} {number}", " ".join(target)))
    return write_tsv(path, rows)


def go_on(start: Path, pairs: Path, folder: Path) -> tuple[Path, dict[str, float]]:
    """Train from a published folder; return the run's, and the figures that it began with."""
    events = []
    train(pairs, folder, settings=(f"start_from={start}", *SETTINGS), report=events.append)
    (started,) = [event for event in events if isinstance(event, Started)]
    return folder, started.measures


def last_loss(folder: Path) -> float:
    """Read the validation loss that a run ended with."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "evaluated"][-1]["measures"]["loss"]


def assert_ends_alike_when_stopped(start: Path, pairs: Path, folder: Path, straight: Path) -> None:
    """Stop a run at its first checkpoint, resume it, and compare the weights bit by bit."""

    class CrashError(Exception):
        pass

    def crash(event):
        if isinstance(event, Saved):
            raise CrashError

    with pytest.raises(CrashError):
        train(pairs, folder, settings=(f"start_from={start}", *SETTINGS), report=crash)
    resume(folder)
    ours, theirs = (load(path).model for path in (folder, straight))
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def assert_goes_out(ours: Any, folder: Path, texts: list[str], model_type: str) -> Any:
    """Export a model; `transformers` computes its logits, and what is read again writes alike."""
    found = export_model(ours, folder)
    assert (found.model_type, found.difference) == (model_type, 0)
    assert found.peer_difference is not None
    assert found.peer_difference < 1e-4 * found.scale
    again = load(folder)
    assert again.translate(texts) == ours.translate(texts)
    return again
