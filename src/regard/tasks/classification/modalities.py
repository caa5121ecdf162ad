"""Images, recordings and series: what each is read from, and the sizes that the data has."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_inputs import LabeledInputs
from regard.data.readers.audio import log_mel_config_of, read_log_mel, read_sample_rate
from regard.data.readers.idx import find_idx, is_idx, read_idx, read_idx_part
from regard.data.readers.images import (
    ImageSize,
    most_common_size,
    read_image,
    read_image_size,
    scaled,
)
from regard.data.readers.labeled_folders import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    files_within,
    labeled_files,
    official_parts,
    read_each,
)
from regard.data.readers.series import NumberRow, read_number_rows, read_unlabeled_rows
from regard.errors import ConfigError, DataError
from regard.models.vit.model import VitConfig
from regard.setup.config import DataConfig, RunConfig, TaskName

Parts = dict[str, LabeledInputs]
"""``train``, and ``valid`` and ``test`` where the makers of the data hold some out."""
Placed = Iterator[tuple[str, NDArray]]
"""Inputs with where each stands."""
_LONGEST = 1024  # rows: ten seconds of a recording
_MOST_HEADERS = 500  # files whose sample rate is looked at


class InputKind(ABC):
    """One kind of input.

    Args:
        task: Name of the task that classifies it.
        unit: What is counted.
        reads_files: Whether an input is a file of its own.
    """

    task: TaskName
    unit: str
    reads_files = True

    @abstractmethod
    def defaults(self) -> tuple[VitConfig, DataConfig]:
        """Return the settings of model and data that this kind starts from."""

    @abstractmethod
    def suit(self, config: RunConfig, path: str) -> RunConfig:
        """Take sizes from the data at a path where nobody chose them."""

    @abstractmethod
    def read(self, config: RunConfig, path: str) -> Parts:
        """Read labeled inputs with the sizes of a configuration."""

    @abstractmethod
    def read_unlabeled(self, config: RunConfig, path: str) -> Placed:
        """Read inputs to be classified: a file, a folder of files, or rows of a file."""

    @abstractmethod
    def facts(self, values: Sequence[NDArray], config: RunConfig) -> str:
        """Tell sizes or lengths in a line."""


class Images(InputKind):
    """Image files in folders, MNIST's idx files, or rows of pixels in CSV."""

    task: TaskName = "image-classification"
    unit = "images"

    def defaults(self) -> tuple[VitConfig, DataConfig]:
        """Images."""
        return VitConfig(), DataConfig()

    def suit(self, config: RunConfig, path: str) -> RunConfig:
        """Take the most frequent size, and patches whose side is near its root."""
        if is_fixed(config):
            return config
        model, chosen = _vit(config), _chosen(config, "model")
        found = self._form(config, path)
        sizes: dict[str, Any] = {"input": "image", "channels": found.channels}
        for name, size in (("height", found.height), ("width", found.width)):
            patch = getattr(model, f"patch_{name}") if f"patch_{name}" in chosen else None
            given = getattr(model, name) if name in chosen else None
            sizes[name], sizes[f"patch_{name}"] = fit_patch(size, patch, given)
        sizes |= {name: getattr(model, name) for name in chosen & sizes.keys()}
        return msgspec.structs.replace(config, model=msgspec.structs.replace(model, **sizes))

    def read(self, config: RunConfig, path: str) -> Parts:
        """Read images of any of the three sources."""
        form = _form_of(_vit(config))
        if not Path(path).is_dir():
            rows = read_number_rows(path, label=label_column(config), encoding=config.data.encoding)
            values = [scaled(_image_of(row, path, config), form) for row in rows]
            return {"train": _of_rows(path, rows, values)}
        if idx := find_idx(path):
            return {part: _of_idx(path, *read_idx_part(files), form) for part, files in idx.items()}
        files = labeled_files(path, IMAGE_SUFFIXES)
        return {
            "train": LabeledInputs(
                path=path,
                values=read_each([file.path for file in files], lambda p: read_image(p, form)),
                labels=[file.label for file in files],
                locations=[file.path.relative_to(path).as_posix() for file in files],
            )
        }

    def read_unlabeled(self, config: RunConfig, path: str) -> Placed:
        """Read an image file, all of a folder, idx files, or rows of pixels.

        Of a folder in MNIST's layout the images that were not trained on.
        """
        form = _form_of(_vit(config))
        idx = find_idx(path) if Path(path).is_dir() else {}
        if idx:
            path = str((idx.get("test") or idx["train"]).images)
        if is_idx(path):
            images = read_idx(path, num_axes=3)
            yield from ((f"image {n}", scaled(i[None], form)) for n, i in enumerate(images, 1))
            return
        for file in _input_files(path, IMAGE_SUFFIXES):
            if Path(file).suffix.lower() in IMAGE_SUFFIXES:
                yield file, read_image(file, form)
                continue
            rows = read_unlabeled_rows(
                file, label=label_column(config), encoding=config.data.encoding
            )
            for row in rows:
                yield f"line {row.line}", scaled(_image_of(row, file, config), form)

    def facts(self, values: Sequence[NDArray], config: RunConfig) -> str:  # noqa: ARG002
        """Tell size and channels."""
        model = _vit(config)
        colour = "colour" if model.channels == 3 else "grey" if model.channels == 1 else "channels"
        shown = f"{model.channels} {colour}" if colour == "channels" else colour
        return (
            f"{model.height} x {model.width} pixels, {shown}, patches of "
            f"{model.patch_height} x {model.patch_width}"
        )

    def _form(self, config: RunConfig, path: str) -> ImageSize:
        """Tell the size that most images have."""
        if not Path(path).is_dir():
            rows = read_number_rows(path, label=label_column(config), encoding=config.data.encoding)
            return ImageSize(*_sides(rows[0], path, config))
        if idx := find_idx(path):
            images, _ = read_idx_part(idx.get("train") or idx["test"])
            return ImageSize(images.shape[1], images.shape[2], 1)
        return most_common_size(
            read_image_size(file.path) for file in labeled_files(path, IMAGE_SUFFIXES)
        )


class Recordings(InputKind):
    """WAV files in folders, as log-mel frames."""

    task: TaskName = "audio-classification"
    unit = "recordings"

    def defaults(self) -> tuple[VitConfig, DataConfig]:
        """Frames, some ten seconds at most."""
        return VitConfig(input="features"), DataConfig(max_length=_LONGEST)

    def suit(self, config: RunConfig, path: str) -> RunConfig:
        """Take the most frequent sample rate, and windows of 25 ms."""
        if is_fixed(config):
            return config
        chosen = _chosen(config, "audio")
        if "sample_rate" not in chosen:
            files = labeled_files(path, AUDIO_SUFFIXES)
            step = max(1, len(files) // _MOST_HEADERS)
            rates = Counter(read_sample_rate(file.path) for file in files[::step])
            rate = next((rate for rate, _ in rates.most_common() if rate), None)
        else:
            rate = config.audio.sample_rate
        suited = config.audio if rate is None else log_mel_config_of(rate)
        given = {name: getattr(config.audio, name) for name in chosen}
        try:
            audio = msgspec.structs.replace(suited, **given)
        except ValueError as error:
            raise ConfigError(f"audio.{error}") from error
        sizes = {"input": "features", "num_features": audio.num_bands}
        model = msgspec.structs.replace(_vit(config), **sizes)
        return msgspec.structs.replace(config, audio=audio, model=model)

    def read(self, config: RunConfig, path: str) -> Parts:
        """Read all files; makers' own lists of validation and test files are heeded."""
        files = labeled_files(path, AUDIO_SUFFIXES)
        whole = LabeledInputs(
            path=path,
            values=read_each([file.path for file in files], lambda p: self._frames(p, config)),
            labels=[file.label for file in files],
            locations=[file.path.relative_to(path).as_posix() for file in files],
        )
        parts = {}
        held_out: set[str] = set()
        for part, names in official_parts(path).items():
            rows = [row for row, place in enumerate(whole.locations) if place in names]
            if rows:
                parts[part] = whole.select(rows)
                held_out |= names
        kept = [row for row, place in enumerate(whole.locations) if place not in held_out]
        return parts | {"train": whole.select(kept)}

    def read_unlabeled(self, config: RunConfig, path: str) -> Placed:
        """Read a WAV file, or all of a folder."""
        for file in _input_files(path, AUDIO_SUFFIXES):
            yield file, self._frames(Path(file), config)

    def facts(self, values: Sequence[NDArray], config: RunConfig) -> str:
        """Tell sample rate and durations."""
        audio = config.audio
        shortest, median, longest = (
            frames * audio.hop_size / audio.sample_rate for frames in _quantiles(values)
        )
        return (
            f"{audio.sample_rate:,} samples a second; {shortest:.2f} to {longest:.2f} s long, "
            f"median {median:.2f} s"
        )

    def _frames(self, path: Path, config: RunConfig) -> NDArray[np.float32]:
        return read_log_mel(path, config.audio).numpy()


class Series(InputKind):
    """Rows of numbers."""

    task: TaskName = "series-classification"
    unit = "series"
    reads_files = False

    def defaults(self) -> tuple[VitConfig, DataConfig]:
        """One number a step."""
        return VitConfig(input="features", num_features=1), DataConfig(max_length=_LONGEST)

    def suit(self, config: RunConfig, path: str) -> RunConfig:  # noqa: ARG002 - as for others
        """Take one number a step, or as many as were chosen."""
        if is_fixed(config):
            return config
        model, chosen = _vit(config), _chosen(config, "model")
        number = model.num_features if "num_features" in chosen else 1
        sizes = {"input": "features", "num_features": number}
        return msgspec.structs.replace(config, model=msgspec.structs.replace(model, **sizes))

    def read(self, config: RunConfig, path: str) -> Parts:
        """Read rows with their labels."""
        _require_file(path)
        rows = read_number_rows(path, label=label_column(config), encoding=config.data.encoding)
        return {"train": _of_rows(path, rows, [_steps_of(row, path, config) for row in rows])}

    def read_unlabeled(self, config: RunConfig, path: str) -> Placed:
        """Read rows; a column of labels is passed over."""
        rows = read_unlabeled_rows(path, label=label_column(config), encoding=config.data.encoding)
        for row in rows:
            yield f"line {row.line}", _steps_of(row, path, config)

    def facts(self, values: Sequence[NDArray], config: RunConfig) -> str:
        """Tell numbers a step, and lengths."""
        shortest, median, longest = _quantiles(values)
        number = _vit(config).num_features
        return (
            f"{number:,} number{'' if number == 1 else 's'} a step; {shortest:,.0f} to "
            f"{longest:,.0f} steps long, median {median:,.0f}"
        )


KINDS: tuple[InputKind, ...] = (Images(), Recordings(), Series())


def is_fixed(config: RunConfig) -> bool:
    """Tell whether sizes are those of a run that has begun, or of weights to go on from."""
    return bool(config.data.labels) or config.start_from is not None


def label_column(config: RunConfig) -> str:
    """Name the column of labels."""
    return config.data.columns[0] if config.data.columns else "label"


def fit_patch(size: int, patch: int | None, given: int | None) -> tuple[int, int]:
    """Choose the side of images and of patches, in pixels.

    The patch is the power of two that is about the root of the side, the side is rounded to a
    multiple of it.

    Args:
        size: That the images have.
        patch: That was chosen, if any.
        given: Side that was chosen, if any; it stays.

    Returns:
        Side and patch.

    >>> fit_patch(28, None, None), fit_patch(8, None, None), fit_patch(30, None, None)
    ((28, 4), (8, 2), (32, 4))
    >>> fit_patch(28, 7, None), fit_patch(28, None, 30), fit_patch(224, None, None)
    ((28, 7), (30, 3), (224, 16))
    """
    side = size if given is None else given
    if patch is None:
        patch = 1 << int(math.log2(side) / 2 + 0.4)
        if given is not None:
            patch = max(part for part in range(1, patch + 1) if side % part == 0)
    return (max(1, (side + patch // 2) // patch) * patch if given is None else side), patch


def _vit(config: RunConfig) -> VitConfig:
    assert isinstance(config.model, VitConfig)
    return config.model


def _chosen(config: RunConfig, section: str) -> set[str]:
    """Name the settings of a section that the user set."""
    names = (setting.partition("=")[0] for setting in config.settings)
    return {name.removeprefix(f"{section}.") for name in names if name.startswith(f"{section}.")}


def _form_of(model: VitConfig) -> ImageSize:
    return ImageSize(model.height, model.width, model.channels)


def _sides(row: NumberRow, path: str, config: RunConfig) -> tuple[int, int, int]:
    """Tell height, width and channels of a row of pixels: those that are known, else a square."""
    model, chosen, count = _vit(config), _chosen(config, "model"), len(row.numbers)
    channels = model.channels if is_fixed(config) or "channels" in chosen else 1
    is_known = is_fixed(config) or {"height", "width"} <= chosen
    if is_known and model.height * model.width * channels == count:
        return model.height, model.width, channels
    side = math.isqrt(count // channels)
    if side * side * channels != count:
        raise DataError(
            f"{path}:{row.line}: {count:,} numbers are no square image with {channels} "
            f"channel{'' if channels == 1 else 's'}.  Set its size: "
            "--set model.height=H --set model.width=W --set model.channels=C"
        )
    return side, side, channels


def _image_of(row: NumberRow, path: str, config: RunConfig) -> NDArray[np.float32]:
    """Lay a row of pixels, row by row, channels innermost, out as ``[channels, height, width]``."""
    height, width, channels = _sides(row, path, config)
    return row.numbers.reshape(height, width, channels).transpose(2, 0, 1)


def _steps_of(row: NumberRow, path: str, config: RunConfig) -> NDArray[np.float32]:
    number = _vit(config).num_features
    if len(row.numbers) % number:
        raise DataError(
            f"{path}:{row.line}: {len(row.numbers):,} numbers are no whole number of steps of "
            f"{number:,} (model.num_features).  Fill the row up, or set another."
        )
    return row.numbers.reshape(-1, number)


def _of_rows(path: str, rows: list[NumberRow], values: list[NDArray]) -> LabeledInputs:
    return LabeledInputs(
        path=path,
        values=values,
        labels=[row.label for row in rows],
        locations=[f"line {row.line}" for row in rows],
    )


def _of_idx(
    path: str, images: NDArray[np.uint8], labels: list[str], form: ImageSize
) -> LabeledInputs:
    return LabeledInputs(
        path=path,
        values=[scaled(image[None], form) for image in images],
        labels=labels,
        locations=[f"image {number}" for number in range(1, 1 + len(images))],
    )


def _input_files(path: str, suffixes: frozenset[str]) -> list[str]:
    if Path(path).is_dir():
        return [str(file) for file in files_within(path, suffixes)]
    return [path]


def _require_file(path: str) -> None:
    if Path(path).is_dir():
        raise DataError(f"{path}: a directory, not a file.  Name one file: CSV or TSV.")


def _quantiles(values: Sequence[NDArray]) -> tuple[float, float, float]:
    lengths = np.array([len(value) for value in values])
    return float(lengths.min()), float(np.median(lengths)), float(lengths.max())
