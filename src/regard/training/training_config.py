"""Settings of a run: its length, its optimizer, its precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from regard.optim import MUON, OPTIMIZERS, SCHEDULES
from regard.optim.cg_updates import BetaName
from regard.settings.binding import check_types
from regard.settings.validation import (
    LARGEST,
    require_at_least,
    require_at_most,
    require_finite,
    require_fraction,
    require_positive,
    require_probability,
)
from regard.training.device import require_device_name

Precision = Literal["auto", "float32", "bf16"]
Parallel = Literal["auto", "ddp", "fsdp"]
if TYPE_CHECKING:
    OptimizerName: TypeAlias = str
    ScheduleName: TypeAlias = str
else:  # the registries are the only lists of names
    OptimizerName = Literal[tuple(OPTIMIZERS)]
    ScheduleName = Literal[tuple(SCHEDULES)]


class TrainingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is trained.

    Args:
        epochs: Most passes over the data; None chooses by the data's size.
        minutes: Wall-clock budget, from the start of the command to the evaluated model; the run is
            planned to use it up. None trains until validation stops improving.
        batch_tokens: Most tokens in a batch, of pairs on either side; None chooses by the preset.
        evaluations: Evaluations within a run of planned length, at least 1.
        patience: Stop after this many evaluations without a better score or a lower validation
            loss; without `minutes` only.
        patience_steps: Fewest steps without a gain after which patience ends a run, 0 or more, on
            batches: an evaluation follows each pass, and a pass over few rows is a few steps.
            0 where `patience` is set.
        label_smoothing: Fraction of the target probability spread over the vocabulary, 0 to below
            1.
        coverage: Weight of the coverage loss of a model that copies (model.has_copy), which has it
            look at each part of the source once (See, Liu & Manning 2017: 1, late in training), 0
            or more; 0 has none.
        device: What computes: cpu, cuda (a GPU; of several, cuda:N), or auto, a GPU where there is
            one. A run that is resumed may take another one.
        precision: float32, bf16 (weights and optimizer stay float32), or auto: bf16 where the
            device computes it fast.
        average: Decay of the exponential moving average of the weights, which is evaluated and
            kept, 0 to below 1; 0 keeps the weights themselves.
        checkpoint_seconds: Most seconds of work that a killed run loses; more where a checkpoint
            takes more than a second to write, for which 2 % of the time are spent.
        seed: Of initial weights, splits, batch order and dropout.
        tensorboard: Whether the figures of the run are also written as event files of TensorBoard,
            to the folder `tensorboard` in that of the run.
        shards: Parts of a batch that several processes compute (torchrun), 1 or more; 1, 2, 3, 4, 6
            and 12 processes share 12 evenly. Dropout follows from the step and the row, or the
            shard, so that a run does not depend on the number of processes.
        deterministic: Whether the sums over shards are taken in a fixed order, so that the weights
            are the same to the last bit for any number of processes, one without torchrun among
            them. A process then uses one thread of a CPU, and a GPU methods that repeat their bits.
        heartbeat_seconds: Time without a heartbeat after which one of several processes counts as
            stopped, and ends the run, 5 or more.
        compile: Whether torch.compile compiles the blocks of the model: auto does on CUDA in a run
            that is expected to take 10 minutes or more. What it takes is said.
        parallel: What several processes hold: ddp, the whole model each; fsdp, a part of it; auto,
            the whole model where it fits in memory.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch_tokens: int | None = None
    evaluations: int = 8
    patience: int = 4
    patience_steps: int = 100
    label_smoothing: float = 0.1
    coverage: float = 0.0
    device: str = "auto"
    precision: Precision = "auto"
    average: float = 0.998
    checkpoint_seconds: float = 50.0
    seed: int = 1
    tensorboard: bool = False
    shards: int = 12
    deterministic: bool = False
    parallel: Parallel = "auto"
    compile: bool | Literal["auto"] = "auto"
    heartbeat_seconds: float = 20.0

    def __post_init__(self) -> None:
        check_types(self)
        require_at_least(1, self, "epochs", "batch_tokens", "evaluations", "patience", "shards")
        require_positive(self, "minutes")
        require_at_least(0, self, "checkpoint_seconds", "seed", "patience_steps", "coverage")
        require_finite(self, "checkpoint_seconds", "coverage")
        require_at_most(LARGEST, self, "minutes", "checkpoint_seconds")
        require_at_least(5, self, "heartbeat_seconds")
        require_finite(self, "heartbeat_seconds")
        require_probability(self, "label_smoothing", "average")
        require_device_name(self.device)


class OptimizerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The optimizer of a run.

    Args:
        name: On batches: muon (Jordan et al. 2024: orthogonalised momentum for matrices, adamw for
            biases and norms), adamw (Loshchilov & Hutter 2019) or sgd with momentum. On all rows at
            once: cg, newton-cg, lbfgs or gradient-descent. Or adam-then-cg.
        learning_rate: Peak rate, above 0; None takes the preset's. cg, newton-cg and lbfgs use
            none; gradient-descent without one takes Barzilai-Borwein steps.
        schedule: cosine, linear or constant, after warm-up.
        warmup: Fraction of the run in which the rate rises, 0 to below 1.
        weight_decay: Of matrices; biases and norms have none.
        beta1: AdamW's decay of the mean of gradients.
        beta2: AdamW's decay of the mean of squared gradients.
        momentum: Muon's decay of the mean of gradients, and sgd's.
        other_rate: Rate of AdamW for biases and norms with Muon, as a fraction of `learning_rate`.
        newton_schulz_steps: Muon's iterations a step.
        clip: Largest norm of the whole gradient, on batches.
        beta: Formula of cg.
        memory: Steps that cg and lbfgs remember; 0 for plain conjugate gradient.
        preconditioner: Of cg and newton-cg: none, adam (the inverse of Adam's denominator), or
            auto, adam for cg.
        curvature: Matrix of newton-cg: gauss-newton or hessian.
        curvature_fraction: Fraction of the data for newton-cg's products, above 0 to 1.
    """

    name: OptimizerName = MUON
    learning_rate: float | None = None
    schedule: ScheduleName = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    momentum: float = 0.95
    other_rate: float = 0.25
    newton_schulz_steps: int = 5
    clip: float = 1.0
    beta: BetaName = "hager-zhang"
    memory: int = 11
    preconditioner: Literal["auto", "none", "adam"] = "auto"
    curvature: Literal["gauss-newton", "hessian"] = "gauss-newton"
    curvature_fraction: float = 0.25

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "learning_rate")
        require_probability(self, "warmup", "beta1", "beta2", "momentum")
        require_positive(self, "clip", allow_infinity=True)
        require_at_least(0, self, "memory", "weight_decay", "other_rate")
        require_at_least(1, self, "newton_schulz_steps")
        require_finite(self, "weight_decay", "other_rate")
        require_fraction(self, "curvature_fraction")
