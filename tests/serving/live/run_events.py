"""Events of a run, as the command line hands them to its page."""

from __future__ import annotations

from typing import Any

RUN = {"name": "ende", "folder": "ende", "resume": "regard train -o ende --resume --live"}
DATA = {
    "event": "data",
    "path": "pairs.tsv",
    "unit": "pairs",
    "contents": "en -> de",
    "languages_are_guessed": True,
    "num_train": 19392,
    "num_valid": 510,
    "num_test": 510,
    "dropped": {"empty side": 21},
    "read_as": "sentence pairs (tab-separated, no header)",
    "columns": [],
    "unused_columns": [],
    "warnings": [],
}
PLANNED = {
    "event": "planned",
    "optimizer": "muon",
    "learning_rate": 0.003,
    "batch_tokens": 4096,
    "padding_share": 0.081,
    "total_steps": 200,
    "steps_per_epoch": 50,
    "seconds": 100.0,
    "memory_bytes": 1_100_000_000,
    "disk_bytes": 140_000_000,
    "patience": 3,
    "measured_steps": 5,
    "num_processes": 0,
    "parallel": "ddp",
    "device": "cpu",
}
FINISHED = {
    "event": "finished",
    "step": 200,
    "best_step": 150,
    "score_name": "chrf",
    "valid": {"chrf": 52.1},
    "test": {"chrf": 51.6, "chrf_low": 50.1, "chrf_high": 53.2, "copy_chrf": 28.4},
    "summary": "valid chrF 52.1   test chrF 51.6",
    "seconds": 101.0,
    "estimate": 100.0,
    "folder": "ende",
    "tries": ['regard translate ende "Good morning"'],
}
ENDED = {"event": "ended", "has_failed": False, "text": ""}


def progress(step: int, loss: float | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "event": "progress",
        "step": step,
        "total_steps": 200,
        "epoch": 1 + step // 50,
        "loss": 8.0 / (1 + step) if loss is None else loss,
        "tokens_per_second": 9000.0 + step,
        "elapsed": step / 2,
        "left": 100 - step / 2,
        "num_passes": 0.0,
        "gradient_norm": 1.0 + step % 3,
        "is_full_batch": False,
        "learning_rate": 0.003,
        **fields,
    }


def evaluated(step: int, *, is_best: bool = True, **fields: Any) -> dict[str, Any]:
    return {
        "event": "evaluated",
        "step": step,
        "epoch": 1 + step // 50,
        "train_loss": 8.0 / (1 + step),
        "measures": {"loss": 7.0 / (1 + step), "chrf": 40 + step / 20},
        "score": 40 + step / 20,
        "score_name": "chrf",
        "is_best": is_best,
        "tokens_per_second": 9000.0,
        "gradient_norm": 1.5,
        "elapsed": step / 2,
        "left": 100 - step / 2,
        "total_steps": 200,
        "num_passes": 0.0,
        "learning_rate": 0.003,
        "stability": {"gradient_norms": {"layer": 1.0}},
        "examples": [{"source": "The bank", "output": "<b>Ufer</b>", "reference": "Das Ufer"}],
        **fields,
    }
