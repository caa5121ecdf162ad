"""Settings decided as a run decides them, from settings as typed and facts made up."""

from __future__ import annotations

from typing import Any

from regard.setup.config import RunConfig
from regard.setup.facts import DataFacts, Facts, Machine, Pretrained, SourceLengths
from regard.setup.request import Request
from regard.setup.resolve import resolve
from regard.tasks import TASKS

MACHINE = Machine(has_fast_bf16=False, flops={"float32": 1e11})
FAST_BF16 = Machine(has_fast_bf16=True, flops={"float32": 1e11, "bf16": 4e11})


def decide(
    *settings: str,
    task: str = "translation",
    num_chars: int = 100_000,
    num_tokens: int = 30_000,
    machine: Machine = MACHINE,
    pretrained: Pretrained | None = None,
    sources: SourceLengths | None = None,
    **facts: Any,
) -> RunConfig:
    """Resolve settings for data of a size."""
    request = Request.parse(settings)
    return resolve(
        request,
        Facts(
            data=DataFacts(num_chars=num_chars, **facts),
            vocab_size=300,
            num_tokens=num_tokens,
            sources=sources,
            pretrained=pretrained,
        ),
        machine,
        TASKS[task].for_config(request.bind_all_but_model(RunConfig())),
    )
