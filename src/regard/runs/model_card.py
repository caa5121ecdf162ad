"""The model card: what a model is, what it was made from, how good it is, in its README.md."""

from __future__ import annotations

import shlex

from regard.errors import NextStep
from regard.models import VitConfig
from regard.setup.base_task import TestReport
from regard.setup.config import RunConfig
from regard.training.events import Finished


def model_card(
    config: RunConfig,
    report: TestReport,
    finished: Finished,
    *,
    path: str,
    architecture: str,
    num_parameters: int,
) -> str:
    """Write the card as Markdown.

    Args:
        config: Of the run.
        report: On the test data.
        finished: How the run ended.
        path: Of the data, as named.
        architecture: Of the model, in a line.
        num_parameters: Trainable numbers.
    """
    figures = "\n".join(
        [f"| validation | {name} | {value:.3f} |" for name, value in finished.valid.items()]
        + [f"| test | {name} | {value:.3f} |" for name, value in finished.test.items()]
    )
    uses = "\n".join(f"    {_use(step)}" for step in finished.tries)
    return f"""# {finished.folder}

{report.kind} trained with regard.

| | |
| --- | --- |
| architecture | {architecture} |
| parameters | {num_parameters:,} |
| tokenizer | {"none" if isinstance(config.model, VitConfig) else config.tokenizer.kind} |
| data | {_data(config, path)} |
| size | {report.rows} |
| training | {finished.step:,} step{"" if finished.step == 1 else "s"} of \
{config.training.batch_tokens:,} tokens at most, \
{_optimizer(config)}, \
{config.training.precision}, {finished.seconds / 60:.1f} min |
| kept weights | running average after step {finished.best_step:,}, best validation \
{finished.score_name} |

| set | measure | value |
| --- | --- | --- |
{figures}

Losses are in nats per token. {report.notes}

## Use

{uses}

## Limits

The model knows the kind of text it was trained on and nothing else; what it writes may be fluent
and wrong. Check what matters.
"""


def _data(config: RunConfig, path: str) -> str:
    if config.data.path is None:
        return "the embedded corpus, generated from Unicode CLDR (licence Unicode-3.0)"
    return f"{path}, sha256 {config.data.sha256[:16]}"


def _optimizer(config: RunConfig) -> str:
    rate = config.optimizer.learning_rate
    name = config.optimizer.name
    return f"{name}, peak rate {rate:g}" if rate is not None else f"{name} on all rows at once"


def _use(step: NextStep) -> str:
    """Write a suggested command, or where it needs options the same in Python."""
    if not step.settings:
        return shlex.join(["regard", step.verb, *step.arguments])
    settings = ", ".join(f"{name}={value!r}" for name, value in step.settings)
    return f"regard.{step.verb}({', '.join(map(repr, step.arguments))}, {settings})"
