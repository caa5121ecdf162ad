"""The model card ``README.md``: architecture, data, training, figures and limits of a model."""

from __future__ import annotations

import math
import shlex

from regard.data.listing import pluralize
from regard.errors import NextStep
from regard.hub.file_names import CURVES
from regard.models import FAMILIES
from regard.setup.config import RunConfig
from regard.setup.evaluation_report import TestReport
from regard.training.events import Finished

_SMALL = 0.1  # figures below have as many digits, not decimals
_FUNCTIONS = ("train", "evaluate")  # of the package, by the names of their verbs


def model_card(
    config: RunConfig,
    report: TestReport,
    finished: Finished,
    *,
    path: str,
    architecture: str,
    num_parameters: int,
    loss_unit: str,
    has_curves: bool = False,
) -> str:
    """Return the card as Markdown.

    Args:
        config: Settings of the run.
        report: Results on the test data.
        finished: The last event of the run.
        path: The data as named by the user.
        architecture: Architecture of the model, in a line.
        num_parameters: Number of trainable weights.
        loss_unit: Unit of the losses; empty where they have none.
        has_curves: Whether the picture of the curves is next to the card.
    """
    figures = "\n".join(
        [f"| validation | {name} | {_rounded(value)} |" for name, value in finished.valid.items()]
        + [f"| test | {name} | {_rounded(value)} |" for name, value in finished.test.items()]
    )
    commands = "\n".join(f"    {_command(step)}" for step in finished.tries)
    data = "the embedded corpus, generated from Unicode CLDR (licence Unicode-3.0)"
    if config.data.path is not None:
        data = f"{path}, sha256 {config.data.sha256[:16]}"
    rate = config.optimizer.learning_rate
    reads_text = config.model.family in FAMILIES
    tokenizer = config.tokenizer.kind if reads_text else "none"
    losses = f"Losses are in {loss_unit}. " if loss_unit else ""
    picture = f"\n![Losses, score and learning rate by step]({CURVES})\n" if has_curves else ""
    schedule = "on all rows at once" if rate is None else f"peak rate {rate:g}"
    return f"""# {finished.folder}

{report.kind} trained with regard.

| | |
| --- | --- |
| architecture | {architecture} |
| parameters | {num_parameters:,} |
| tokenizer | {tokenizer} |
| data | {data} |
| size | {report.rows} |
| training | {pluralize(finished.step, "step")} of \
{config.training.batch_tokens:,} tokens at most, \
{config.optimizer.name}{" " if rate is None else ", "}{schedule}, \
{config.training.precision}, {finished.seconds / 60:.1f} min |
| kept weights | running average after step {finished.best_step:,}, best validation \
{finished.score_name} |

| set | measure | value |
| --- | --- | --- |
{figures}

{losses}{report.notes}
{picture}
## Use

{commands}

## Limits

{report.limits}
"""


def _rounded(value: float) -> str:
    """Return a figure with three decimals, or with three digits where it is small; a dash for NaN.

    >>> _rounded(97.25), _rounded(0.00754), _rounded(math.nan)
    ('97.250', '0.00754', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) >= _SMALL or not value else f"{value:.3g}"


def _command(step: NextStep) -> str:
    """Return a suggested command; one with options as a call in Python."""
    if not step.settings:
        return shlex.join(["regard", step.verb, *step.arguments])
    if step.verb not in _FUNCTIONS:  # a method of the model, whose options name files of text
        folder, *words = map(repr, step.arguments)
        texts = (f"{name}=open({value!r}).read()" for name, value in step.settings)
        return f"regard.load({folder}).{step.verb}({', '.join([*words, *texts])})"
    settings = ", ".join(f"{name}={value!r}" for name, value in step.settings)
    return f"regard.{step.verb}({', '.join(map(repr, step.arguments))}, {settings})"
