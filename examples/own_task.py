"""A task of your own: restore capitals and punctuation, learned from plain text alone.

    python examples/own_task.py

A task declares its families and sizes, reads data, and says what is learned. This one is
translation with another reader: the target is a sentence, the source the same sentence in small
letters without punctuation. One line in `TASKS` makes it known to `regard.train`, `regard.load` and
the settings.
"""

from __future__ import annotations

import random
import string
import tempfile
from pathlib import Path

import regard
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.readers.running_text import read_text
from regard.data.splits import split
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.tasks import TASKS
from regard.tasks.translation.data import TranslationData
from regard.tasks.translation.task import TranslationTask

_REMOVED = str.maketrans("", "", string.punctuation)


def flatten(sentence: str) -> str:
    """Remove capitals and punctuation.

    >>> flatten("No, Anna is in Rome!")
    'no anna is in rome'
    """
    return sentence.translate(_REMOVED).lower()


class RestorationTask(TranslationTask):
    """Sentences without capitals and punctuation to sentences with them."""

    name = "restoration"

    @property
    def defaults(self) -> RunConfig:
        """The Transformer."""
        return RunConfig(task=self.name)

    def read(self, options: ReadOptions) -> TranslationData:
        """Read running text, a sentence a line, and hold some lines out."""
        source = options.training_source("sentences.txt")
        lines = read_text(source, encoding=options.data.encoding)
        pairs = ParallelCorpus(
            path=lines.path,
            sources=[flatten(text) for text in lines.texts],
            targets=lines.texts,
            lines=lines.numbers,
        )
        parts = split(pairs, seed=options.seed)
        return TranslationData(
            path=lines.path,
            train=parts.train,
            valid=parts.valid,
            test=parts.test,
            dropped=parts.dropped,
            languages="",
        )


def write_sentences(path: Path) -> None:
    """Write a file of simple sentences."""
    rng = random.Random(1)
    names, places = ("Anna", "Ben", "Clara", "Omar"), ("Rome", "Oslo", "Lima", "Cairo")
    sentences = set()
    while len(sentences) < 600:
        name, other, place = rng.choice(names), rng.choice(names), rng.choice(places)
        number = rng.randint(2, 60)
        sentences |= {
            f"{name} met {other} in {place}, {number} years ago.",
            f"No, {name} has {number} letters from {place}!",
            f"Is {name} in {place}, or {other}? I waited {number} days.",
        }
    path.write_text("\n".join(sorted(sentences)) + "\n", encoding="utf-8")


def main(folder: Path) -> str:
    """Train; return a sentence that the model restored."""
    TASKS[RestorationTask.name] = RestorationTask()
    write_sentences(folder / "sentences.txt")
    settings = (  # a model of some seconds
        "model.num_encoder_layers=1",
        "model.num_decoder_layers=1",
        "model.dim=64",
        "model.hidden_dim=128",
        "tokenizer.vocab_size=300",
        "training.epochs=8",
    )
    regard.train(
        folder / "sentences.txt",
        folder / "model",
        task="restoration",
        preset="tiny",
        settings=settings,
        report=None,
    )
    flat = "no clara has 7 letters from oslo"
    restored = regard.load(folder / "model").translate(flat)
    print(f"{flat}  ->  {restored}")
    return restored


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary_folder:
        main(Path(temporary_folder))
