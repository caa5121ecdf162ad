"""The copy mechanism on and off: the same file, seed and duration, scored on the same test file.

    python benchmarks/copy_mechanism.py train.tsv valid.tsv test.tsv (--minutes M | --epochs E)
        [--arms plain,copy,coverage] [--coverage 1] [--preset small] [--seed 1]
        [--set KEY=VALUE] [--folder MODELS]

The files are sentence pairs, or documents with summaries (JSONL). Arms, one after the other:

- plain: without the copy mechanism
- copy: with it (``model.has_copy``)
- coverage: with it and the coverage loss (``training.coverage``)

With ``--minutes`` all take the same time, so a slower step costs steps; with ``--epochs`` all take
the same number of steps. A line of JSON is printed for each arm as soon as it is known: parameters,
steps, target tokens a second, the figures of the best evaluation on validation rows, all scores on
the test file with their intervals, and differences to the first arm (paired bootstrap).

``rare_words`` is what the mechanism is for: of the words in the references of up to 500 test rows
that are also in their sources, and in fewer than three rows of the training targets, the percentage
that is in the output.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import regard
from regard.data.parallel_corpus import ParallelCorpus
from regard.hub.model_folder import ModelFolder
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.tasks import task_named
from regard.training.events import Evaluated, Event

ARMS = {
    "plain": ("model.has_copy=false",),
    "copy": ("model.has_copy=true",),
    "coverage": ("model.has_copy=true", "training.coverage={coverage:g}"),
}
_DECODED = 500  # test rows at most in which rare words are looked for
_RARE = 3  # rows of the training targets, from which a word is learned without copying


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one arm.

    Args:
        arm: Its name.
        settings: All settings that were set.
        seed: Of the run.
        num_parameters: Of the model.
        steps: Training steps.
        tokens_per_second: Target tokens, at the end of training.
        valid: Figures of the best evaluation on validation rows.
        scores: Of the test file, with intervals.
        rare_words: Percentage of rare words of the source that were copied; None without any.
        num_rare_words: Number of these words.
        differences: To the first arm; None for the first arm itself.
    """

    arm: str
    settings: list[str]
    seed: int
    num_parameters: int
    steps: int
    tokens_per_second: float
    valid: dict[str, float]
    scores: dict[str, Any]
    rare_words: float | None
    num_rare_words: int
    differences: Any


def rare_words(train: Sequence[str], sources: Sequence[str], targets: Sequence[str]) -> list[set]:
    """Return the rare words of each test row that its target has from its source.

    Args:
        train: Targets of training.
        sources: Of the test rows.
        targets: Of the test rows.

    Returns:
        Words, divided at spaces, of each row.
    """
    num_rows = Counter(word for text in train for word in set(text.split()))
    return [
        {word for word in {*source.split()} & {*target.split()} if num_rows[word] < _RARE}
        for source, target in zip(sources, targets, strict=True)
    ]


def read_rows(folder: Path) -> tuple[ParallelCorpus, ParallelCorpus]:
    """Read the rows that a model was trained on, and its test rows."""
    config = ModelFolder(folder).read_config(RunConfig)
    dataset = task_named(config.task).read(ReadOptions.from_config(config))
    return dataset.train, dataset.test


def run(arm: str, options: argparse.Namespace, folder: Path, first: Path | None) -> Result:
    """Train one arm and score it.

    Args:
        arm: Its name.
        options: Of the command line.
        folder: Of the new model.
        first: Folder of the first arm; None for the first itself.
    """
    settings = [text.format(coverage=options.coverage) for text in ARMS[arm]]
    if options.epochs is not None:
        settings.append(f"training.epochs={options.epochs}")
    settings += options.set
    evaluations: list[Evaluated] = []

    def note(event: Event) -> None:
        if isinstance(event, Evaluated):
            evaluations.append(event)

    predictor: Any = regard.train(
        options.train,
        folder,
        valid=options.valid,
        test=options.test,
        task=options.task,
        preset=options.preset,
        minutes=options.minutes,
        seed=options.seed,
        settings=settings,
        report=note,
    )
    report: Any = regard.evaluate(folder, options.test, compare=first)
    train, test = read_rows(folder)
    test = test.select(range(0, len(test), 1 + len(test) // _DECODED))
    write = predictor.summarize if hasattr(predictor, "summarize") else predictor.translate
    outputs = write(test.sources)
    rare = rare_words(train.targets, test.sources, test.targets)
    num_rare = sum(map(len, rare))
    num_copied = sum(
        len(words & {*output.split()}) for words, output in zip(rare, outputs, strict=True)
    )
    best = [event for event in evaluations if event.is_best][-1]
    return Result(
        arm=arm,
        settings=settings,
        seed=options.seed,
        num_parameters=sum(parameter.numel() for parameter in predictor.model.parameters()),
        steps=evaluations[-1].step,
        tokens_per_second=evaluations[-1].tokens_per_second,
        valid=best.measures,
        scores=report.intervals,
        rare_words=100 * num_copied / num_rare if num_rare else None,
        num_rare_words=num_rare,
        differences=report.comparison,
    )


def main() -> None:
    """Run the arms and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("train", "valid", "test"):
        parser.add_argument(name)
    duration = parser.add_mutually_exclusive_group(required=True)
    duration.add_argument("--minutes", type=float)
    duration.add_argument("--epochs", type=int)
    parser.add_argument("--arms", default="plain,copy,coverage")
    parser.add_argument("--coverage", type=float, default=1.0)
    parser.add_argument("--task")
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folder", help="keeps the models, named by arm; else they are removed")
    options = parser.parse_args()
    arms = options.arms.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        parser.error(f"--arms {','.join(unknown)}: not known.  Known: {', '.join(ARMS)}.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        for arm in arms:
            first = None if arm == arms[0] else folder / arms[0]
            result = run(arm, options, folder / arm, first)
            print(json.dumps(msgspec.to_builtins(result), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
