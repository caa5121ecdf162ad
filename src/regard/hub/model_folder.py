"""A model folder: all parts of a trained model, in files that a person can read or check.

config.toml          every setting of the run, with path and hash of its data
tokenizer.json       the vocabulary (with tokenizer_config.json where it came with weights)
source/              the vocabulary of the sources, where they have another than the targets
model.safetensors    the weights of the best evaluation
metrics.jsonl        one line an evaluation, and one for a run that diverged or is finished
calibration.json     what was tuned on validation data after training, such as a threshold
manifest.json        hashes of these files
README.md            the model card
curves.svg           a picture of losses, score and learning rate
checkpoints/         what a run needs to resume
tensorboard/         event files, where a run was asked for them
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from regard.data.listing import list_first
from regard.errors import (
    ConfigError,
    NextStep,
    WeightsError,
    advise_on_windows_path,
    did_you_mean,
)
from regard.hub.file_names import (
    CALIBRATION,
    CHECKPOINTS,
    CONFIG,
    CURVES,
    HF_CONFIG,
    MANIFEST,
    METRICS,
    MODEL_CARD,
    SOURCE_FOLDER,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    WEIGHTS_INDEX,
    visible_names,
)
from regard.hub.hugging_face.recognize import has_sentencepiece, is_hugging_face
from regard.hub.int8_weights import dequantize, is_quantized, weights_alone
from regard.hub.manifest import Manifest
from regard.hub.storage import (
    advise_on_folder,
    append_line,
    read_tensors,
    read_text,
    tensor_shapes,
    warn_if_not_finite,
    write_atomic,
    write_tensors,
)
from regard.settings.binding import from_toml, to_toml

if TYPE_CHECKING:
    from regard.hub.any_tokenizer import AnyTokenizer

T = TypeVar("T", bound=msgspec.Struct)
_NAMED_FILES = 3
_RISE = 0.01  # of the loss, which may be below 0: less is chance
_WRITTEN_LATER = (HF_CONFIG, WEIGHTS, WEIGHTS_INDEX, TOKENIZER, MODEL_CARD, METRICS, CURVES)
"""Files that a run writes after its settings, or that are of a published model."""
_UNWRITABLE = "{}: cannot be written ({}).  {}"


class _MetricsLine(msgspec.Struct):
    """The types of what lines of metrics.jsonl have."""

    event: str = ""
    step: int = 0
    is_best: bool = False
    measures: dict[str, float | None] = {}
    test: dict[str, float | None] = {}


class ModelFolder:
    """One model folder.

    Args:
        path: The folder; it need not exist before something is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest(self.path)

    @property
    def holds_model(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / CONFIG).is_file()

    @property
    def weights_path(self) -> Path:
        """The file of the weights."""
        return self.path / WEIGHTS

    def create(self) -> None:
        """Create the folder.

        Raises:
            ConfigError: It cannot be created.
        """
        try:
            (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            advice = advise_on_folder(self.path)
            raise ConfigError(_UNWRITABLE.format(self.path, error.strerror, advice)) from error

    def check_writable(self) -> None:
        """Raise where `create` would fail, without creating anything.

        Raises:
            ConfigError: The folder cannot be created.
        """
        checkpoints = self.path / CHECKPOINTS
        if checkpoints.is_dir():
            return
        nearest = next(path for path in checkpoints.parents if os.path.lexists(path))
        problems = {
            errno.EEXIST: os.path.lexists(checkpoints),
            errno.ENOTDIR: not nearest.is_dir(),
            errno.EACCES: not os.access(nearest, os.W_OK | os.X_OK),
        }
        problem = next((number for number, is_met in problems.items() if is_met), None)
        if problem is not None:
            advice = advise_on_folder(self.path)
            raise ConfigError(_UNWRITABLE.format(self.path, os.strerror(problem), advice))

    def require_no_other_files(self) -> None:
        """Raise where a run would write among files of another origin, such as a published model.

        A run writes its settings early: without them the files are of another origin, but for those
        of a run that was killed as it began, which has made an empty folder of checkpoints. Names
        that begin with a dot are left out.

        Raises:
            ConfigError: With the first of the files.
        """
        names = visible_names(self.path)
        checkpoints = self.path / CHECKPOINTS
        if checkpoints.is_dir() and not any(checkpoints.iterdir()):
            names = [name for name in names if name in _WRITTEN_LATER]
        if names:
            raise ConfigError(
                f"{self.path}: holds {list_first(names, _NAMED_FILES)}, which no run wrote here; "
                "nothing was changed.  Choose a new folder with `output`."
            )

    def require_model(self) -> None:
        """Raise where the folder holds no model.

        Raises:
            WeightsError: It holds none, or does not exist.
        """
        if self.holds_model:
            return
        from regard.hub.hugging_face.other_folders import (
            describe_file,
            describe_folder,
            describe_missing,
        )

        train = NextStep("Train one", "train", ("pairs.tsv",), (("output", str(self.path)),))
        if not self.path.exists():
            if advice := describe_missing(self.path):
                raise WeightsError(f"{self.path}: no such folder.{advice}")
            hint = did_you_mean(self.path.name, self._other_models())
            hint = hint or advise_on_windows_path(str(self.path))
            raise WeightsError(f"{self.path}: no such folder.{hint}", *([] if hint else [train]))
        if not self.path.is_dir():
            description = describe_file(self.path)
            raise WeightsError(description or f"{self.path}: a file, not a model folder.")
        if description := describe_folder(self.path):
            raise WeightsError(description)
        raise WeightsError(f"{self.path}: holds no {CONFIG}: not a model folder.", train)

    def _other_models(self) -> dict[str, str]:
        """Return the paths of model folders next to this one, which does not exist, by name."""
        with suppress(OSError):
            folders = sorted(self.path.parent.iterdir())
            return {folder.name: str(folder) for folder in folders if (folder / CONFIG).is_file()}
        return {}

    def read_config(self, kind: type[T]) -> T:
        """Read the settings, and compare all files but the weights with the manifest.

        Args:
            kind: Type of the struct that they fill.

        Returns:
            The settings.

        Raises:
            WeightsError: The folder holds no model, or a file was changed since it was written.
            ConfigError: A setting is unknown or wrong.
        """
        self.require_model()
        if not self.manifest.exists:
            warnings.warn(
                f"{self.path}: has no {MANIFEST}, so a changed file would not be noticed.",
                stacklevel=1,  # one location, so that Python shows it once
            )
        self.manifest.check()
        path = self.path / CONFIG
        return from_toml(read_text(path), kind, name=str(path))

    def write_config(self, config: msgspec.Struct) -> None:
        """Write the settings."""
        self._write_guarded(CONFIG, to_toml(config).encode())

    def read_tokenizer(self) -> AnyTokenizer:
        """Read the vocabulary: one that a run trained, or one that came with published weights.

        Returns:
            The vocabulary; of an encoder and a decoder with one each, both.

        Raises:
            WeightsError: It is missing or damaged.
        """
        source = self.path / SOURCE_FOLDER
        if self.holds_model and (source / TOKENIZER).is_file():
            from regard.hub.hugging_face.source_target_tokenizer import read_source_target

            return read_source_target(source, self.path)
        if self._has_published_tokenizer:
            from regard.hub.hugging_face.sentencepiece_tokenizer import read_any_tokenizer

            return read_any_tokenizer(self.path)
        path = self.path / TOKENIZER
        if not path.is_file():
            raise WeightsError(
                f"{path}: missing.  Restore it, or train again with another `output`."
            )
        from regard.data.tokenizer import Tokenizer

        return Tokenizer.from_json(read_text(path), name=str(path))

    @property
    def _has_published_tokenizer(self) -> bool:
        has_settings = (self.path / TOKENIZER_CONFIG).is_file()
        return has_settings or has_sentencepiece(self.path) or is_hugging_face(self.path)

    def write_tokenizer(self, tokenizer: AnyTokenizer) -> None:
        """Write the vocabulary."""
        for name, content in tokenizer.files().items():
            self._write_guarded(name, content.encode() if isinstance(content, str) else content)

    def read_weights(self, *, takes_int8: bool = False) -> dict[str, Tensor]:
        """Read the weights, checked against their checksum.

        Args:
            takes_int8: Whether weights of 8 bits are of use, which are for decoding alone.

        Returns:
            Tensors by the names of the model's parameters; those of 8 bits as float32.

        Raises:
            WeightsError: They are missing or damaged, or have 8 bits and are of no use.
        """
        if not self.weights_path.is_file():
            resume = (("output", str(self.path)), ("resume", "true"))
            raise WeightsError(
                f"{self.weights_path}: missing; no evaluation has been reached yet.",
                NextStep("Continue", "train", (), resume),
            )
        if not takes_int8:
            self.require_trainable()
        tensors, _ = read_tensors(self.weights_path)
        self.manifest.check_weights()
        warn_if_not_finite(tensors, str(self.weights_path))
        if not is_quantized(tensors):
            return tensors
        return dequantize(tensors, name=str(self.weights_path))

    def require_trainable(self) -> None:
        """Raise where the weights have 8 bits, by the header of their file.

        Raises:
            WeightsError: They have, so that no training can start from them.
        """
        if self.has_int8_weights:
            raise WeightsError(
                f"{self.path}: holds int8 weights, which are for use alone.  Take the folder that "
                "it was made from."
            )

    @property
    def has_int8_weights(self) -> bool:
        """Whether the weights have 8 bits, by the header of their file."""
        shapes = self._all_shapes()
        return len(shapes) > len(weights_alone(shapes))

    def _all_shapes(self) -> dict[str, tuple[int, ...]]:
        return tensor_shapes(self.weights_path) if self.weights_path.is_file() else {}

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights, by the header of their file; empty without one."""
        return weights_alone(self._all_shapes())

    def write_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the weights by the names of the parameters."""
        write_tensors(
            self.weights_path,
            tensors,
            {},
            before_replacing=lambda checksum: self.manifest.record_checksum(WEIGHTS, checksum),
        )

    def read_calibration(self) -> dict[str, float]:
        """Return what was tuned after training, by name; empty where nothing was.

        Raises:
            WeightsError: The file is damaged, was removed, or is not of this run.
        """
        self.manifest.check_presence(CALIBRATION, is_complete=self.is_finished)
        path = self.path / CALIBRATION
        if not path.is_file():
            return {}
        try:
            return msgspec.json.decode(read_text(path), type=dict[str, float])
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path}: not an object of numbers by name ({error}).") from error

    def write_calibration(self, values: Mapping[str, float]) -> None:
        """Write what was tuned after training."""
        content = msgspec.json.encode(dict(values), order="sorted")
        self._write_guarded(CALIBRATION, msgspec.json.format(content) + b"\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl.

        Returns:
            One object a line, oldest first; empty where the file is missing.

        Raises:
            WeightsError: The file is damaged.
        """
        path = self.path / METRICS
        if not path.is_file():
            return []
        *lines, _ = read_text(path).split("\n")  # what follows the last line end is cut off
        try:
            for line in lines:
                if line:
                    msgspec.json.decode(line, type=_MetricsLine)
            return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines if line]
        except (ValueError, RecursionError) as error:
            raise WeightsError(
                f"{path}: a line is not a JSON object as runs write it ({error})."
            ) from error

    @property
    def is_finished(self) -> bool:
        """Whether the run of the folder is finished.

        Raises:
            WeightsError: The record of the run is damaged.
        """
        return any(line.get("event") == "finished" for line in self.read_metrics())

    @property
    def loss_rose(self) -> bool:
        """Whether the validation loss was lower in the run than at its end, if that is known."""
        lines: list[dict[str, Any]] = []
        with suppress(WeightsError):  # a model is as good without the record of its run
            lines = [line for line in self.read_metrics() if line.get("event") == "evaluated"]
        losses = [line.get("measures", {}).get("loss") for line in lines]
        losses = [loss for loss in losses if loss is not None]
        return bool(losses) and losses[-1] - min(losses) > _RISE * abs(min(losses))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        append_line(self.path / METRICS, msgspec.json.encode(line))
        self.manifest.record_lines(METRICS, (self.path / METRICS).read_bytes())

    def write_metrics(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write metrics.jsonl with these lines alone."""
        content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        self.manifest.record_lines(METRICS, content)
        write_atomic(self.path / METRICS, content)

    def drop_metrics_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl after a step; without any, the file is left as it is."""
        path, lines = self.path / METRICS, self.read_metrics()
        remaining = [line for line in lines if line.get("step", 0) <= step]
        is_whole = path.is_file() and path.read_bytes().endswith(b"\n")
        if len(remaining) < len(lines) or not is_whole:
            self.write_metrics(remaining)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file such as the model card."""
        write_atomic(self.path / name, text)

    def _write_guarded(self, name: str, content: bytes) -> None:
        self.manifest.record(name, content)
        write_atomic(self.path / name, content)


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, name: str) -> None:
    """Load weights into a model; every parameter must have its tensor, of its shape.

    Args:
        model: The model.
        tensors: Tensors by the names of its parameters.
        name: File of the weights, for messages.

    Raises:
        WeightsError: A tensor is missing, of another shape, or does not belong to the model; the
            first is named.
    """
    check_shapes(model, {key: tensor.shape for key, tensor in tensors.items()}, name=name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(tensors[key])


def check_shapes(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], *, name: str) -> None:
    """Check that every parameter of a model has a tensor of its shape, and every tensor is one's.

    Args:
        model: The model, which may be on the meta device.
        shapes: Shapes of the tensors, by the names of parameters.
        name: File of the tensors, for messages.

    Raises:
        WeightsError: The first difference.
    """
    parameters = dict(model.named_parameters())
    for key, parameter in parameters.items():
        if key not in shapes:
            raise WeightsError(
                f"{name}: tensor {key} is missing ({len(shapes)} of {len(parameters)} found)."
            )
        if shapes[key] != parameter.shape:
            raise WeightsError(
                f"{name}: tensor {key} has shape {list(shapes[key])}, "
                f"{CONFIG} says {list(parameter.shape)}."
            )
    surplus = sorted(set(shapes) - set(parameters))
    if surplus:
        raise WeightsError(f"{name}: tensor {surplus[0]} does not belong to this model.")
