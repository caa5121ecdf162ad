"""A model folder: everything that makes a trained model, in files a person can read or check.

config.toml          every setting the run was made with, data path and hash among them
tokenizer.json       the vocabulary (tokenizer_config.json beside one that came with weights)
source/              that of the sources, where encoder and decoder came with one each
model.safetensors    the weights that are used
metrics.jsonl        one line an evaluation
README.md            the model card
checkpoints/         what a run needs to go on
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from torch import Tensor, nn

from regard.data.tokenizer import Tokenizer
from regard.errors import ConfigError, WeightsError
from regard.hub.hugging_face.checkpoint import is_hugging_face
from regard.hub.hugging_face.published_tokenizer import PublishedTokenizer
from regard.hub.hugging_face.sentencepiece_tokenizer import has_sentencepiece, read_any_tokenizer
from regard.hub.hugging_face.source_target_tokenizer import SOURCE_FOLDER, PairTokenizer
from regard.hub.storage import read_tensors, write_atomic, write_tensors
from regard.settings.binding import from_toml, to_toml

T = TypeVar("T", bound=msgspec.Struct)
AnyTokenizer = Tokenizer | PublishedTokenizer


class ModelFolder:
    """One model folder.

    Args:
        path: Its place; need not exist before something is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def holds_model(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "config.toml").is_file()

    def create(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: It cannot be made.
        """
        try:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unsuitable(error) from error

    def require_place(self) -> None:
        """Refuse a place where `create` would fail, without making anything.

        Raises:
            ConfigError: The folder cannot be made.
        """
        if self._checkpoints.is_dir():
            return
        nearest = next(path for path in self._checkpoints.parents if os.path.lexists(path))
        problem = None
        if os.path.lexists(self._checkpoints):
            problem = errno.EEXIST
        elif not nearest.is_dir():
            problem = errno.ENOTDIR
        elif not os.access(nearest, os.W_OK | os.X_OK):
            problem = errno.EACCES
        if problem is not None:
            raise self._unsuitable(OSError(problem, os.strerror(problem)))

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def _unsuitable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path}: cannot be written ({error.strerror}).  Choose another folder with -o."
        )

    def require_model(self) -> None:
        """Refuse a folder that holds no model.

        Raises:
            WeightsError: With what was found instead.
        """
        if not self.path.exists():
            raise WeightsError(
                f"{self.path}: no such folder.  Train one: regard train pairs.tsv -o {self.path}"
            )
        if not self.path.is_dir():
            raise WeightsError(f"{self.path}: a file, not a model folder.")
        if not self.holds_model:
            raise WeightsError(
                f"{self.path}: holds no config.toml, so it is no model folder.  "
                f"Train one: regard train pairs.tsv -o {self.path}"
            )

    def read_config(self, kind: type[T]) -> T:
        """Read the settings as a struct of the given type."""
        self.require_model()
        path = self.path / "config.toml"
        return from_toml(self._read_text(path), kind, name=str(path))

    def write_config(self, config: msgspec.Struct) -> None:
        """Write the settings."""
        write_atomic(self.path / "config.toml", to_toml(config))

    def read_tokenizer(self) -> AnyTokenizer:
        """Read the vocabulary: of our own making, or one that came with published weights."""
        source = self.path / SOURCE_FOLDER
        if self.holds_model and (source / "tokenizer.json").is_file():
            return PairTokenizer(read_any_tokenizer(source), read_any_tokenizer(self.path))
        is_published = (self.path / "tokenizer_config.json").is_file()
        if is_published or has_sentencepiece(self.path) or is_hugging_face(self.path):
            return read_any_tokenizer(self.path)
        path = self.path / "tokenizer.json"
        if not path.is_file():
            raise WeightsError(f"{path}: missing.  Restore it, or train anew with another -o.")
        return Tokenizer.from_json(self._read_text(path), name=str(path))

    def write_tokenizer(self, tokenizer: AnyTokenizer) -> None:
        """Write the vocabulary."""
        is_published = isinstance(tokenizer, PublishedTokenizer)
        files = tokenizer.files() if is_published else {"tokenizer.json": tokenizer.to_json()}
        for name, content in files.items():
            (self.path / name).parent.mkdir(exist_ok=True)
            write_atomic(self.path / name, content)

    @property
    def weights_path(self) -> Path:
        """Where the weights stand."""
        return self.path / "model.safetensors"

    def read_weights(self) -> dict[str, Tensor]:
        """Read the weights, checked against their checksum."""
        if not self.weights_path.is_file():
            raise WeightsError(
                f"{self.weights_path}: missing; no evaluation has been reached yet.  "
                f"Continue: regard train -o {self.path} --resume"
            )
        return read_tensors(self.weights_path)[0]

    def write_weights(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        """Write the weights with a few facts about them."""
        write_tensors(self.weights_path, tensors, state)

    def read_metrics(self) -> list[dict]:
        """Read the lines of metrics.jsonl, oldest first; none where the file is missing."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        decoder = msgspec.json.Decoder()
        return [decoder.decode(line) for line in self._read_text(path).split("\n") if line]

    def write_metrics(self, lines: list[dict]) -> None:
        """Write all lines of metrics.jsonl."""
        encoded = [msgspec.json.encode(line).decode() + "\n" for line in lines]
        write_atomic(self.path / "metrics.jsonl", "".join(encoded))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file such as the model card."""
        write_atomic(self.path / name, text)

    @staticmethod
    def _read_text(path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"{path}: cannot be read ({error}).") from error


def load_weights(model: nn.Module, tensors: dict[str, Tensor], *, name: str) -> None:
    """Put weights into a model; every one must be there with its shape.

    Raises:
        WeightsError: A tensor is missing, surplus or of another shape; the first is named.
    """
    wanted = dict(model.named_parameters())
    for key, parameter in wanted.items():
        if key not in tensors:
            raise WeightsError(
                f"{name}: tensor {key} is missing ({len(tensors)} of {len(wanted)} found)."
            )
        if tensors[key].shape != parameter.shape:
            raise WeightsError(
                f"{name}: tensor {key} has shape {list(tensors[key].shape)}, "
                f"config.toml says {list(parameter.shape)}."
            )
    surplus = sorted(set(tensors) - set(wanted))
    if surplus:
        raise WeightsError(f"{name}: tensor {surplus[0]} is none of this model's.")
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(tensors[key])
