"""Drawn documents with summaries, and a tiny summarizer of them.

Each document has one sentence that says what is sold where, among sentences of no use; its summary
repeats what and where.
"""

from __future__ import annotations

import json
import random

import pytest
from tests.conftest import TINY

THINGS = ("apples", "books", "chairs", "lamps", "maps", "shoes")
PLACES = ("Berlin", "Cairo", "Delhi", "Lima", "Oslo", "Rome")
REST = ("It rains.", "Nobody knows why.", "The day is long.", "All is well.")


def draw_documents(count: int, *, seed: int = 1, num_sentences: int = 3) -> list[dict[str, str]]:
    """Draw distinct documents with their summaries."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        number, thing, place = rng.randint(1, 200), rng.choice(THINGS), rng.choice(PLACES)
        sentences = [rng.choice(REST) for _ in range(num_sentences)]
        sentences[rng.randrange(num_sentences)] = f"They sell {number} {thing} in {place}."
        rows[" ".join(sentences)] = f"{number} {thing} in {place}"
    return [{"document": document, "summary": summary} for document, summary in rows.items()]


def write_jsonl(path, rows):
    """Write one object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


SETTINGS = (*TINY, "training.batch_tokens=1024", "training.epochs=2")


@pytest.fixture(scope="session")
def documents_file(tmp_path_factory):
    """A JSONL file of 300 drawn documents."""
    return write_jsonl(tmp_path_factory.mktemp("data") / "documents.jsonl", draw_documents(300))


@pytest.fixture(scope="session")
def summarizer_folder(tmp_path_factory, documents_file):
    """A model folder of a finished run on the drawn documents."""
    from regard.runs.run import train

    folder = tmp_path_factory.mktemp("models") / "news"
    train(documents_file, folder, settings=SETTINGS)
    return folder
