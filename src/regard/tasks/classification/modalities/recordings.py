"""Recordings: WAV files in folders or tables, as log-mel frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.data.readers.audio import (
    LogMelConfig,
    log_mel_config_of,
    read_log_mel,
    read_sample_rate,
)
from regard.data.readers.embedded_file import FileLike
from regard.data.readers.labeled_folders import AUDIO_SUFFIXES, labeled_files, official_parts
from regard.data.readers.media_tables import has_media
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource
from regard.errors import ConfigError
from regard.models.vit.model import VitConfig
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions
from regard.tasks.classification.modalities.base import (
    MOST_ROWS,
    InputFormat,
    LocatedInputs,
    Modality,
    Parts,
)
from regard.tasks.classification.modalities.files import (
    MOST_HEADERS,
    first_files,
    read_labeled_files,
    read_labeled_rows,
    unlabeled_files,
)


class Recordings(Modality):
    """WAV files in folders or tables, as log-mel frames."""

    task = "audio-classification"
    unit = "recordings"
    contents = "recordings, a folder for each label"
    model = VitConfig(input="features")
    data = DataConfig(max_length=MOST_ROWS)
    suffixes = AUDIO_SUFFIXES
    reads_frames = True

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds recordings."""
        return shape.kind == "recordings"

    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:
        """Choose the most frequent sample rate, and windows of 25 ms."""
        rate = options.audio.get("sample_rate")
        if rate is None:
            files: Iterable[FileLike] = []
            if has_media(source):
                files = first_files(source, options.data)
            else:
                paths = [file.path for file in labeled_files(source, AUDIO_SUFFIXES)]
                files = paths[:: max(1, len(paths) // MOST_HEADERS)]
            rates = Counter(map(read_sample_rate, files))
            rate = next((rate for rate, _ in rates.most_common() if rate), None)
        fitted = LogMelConfig() if rate is None else log_mel_config_of(rate)
        try:
            audio = msgspec.structs.replace(fitted, **options.audio)
        except ValueError as error:
            raise ConfigError(f"audio.{error}") from error
        sizes = {"input": "features", "num_features": audio.num_bands}
        return InputFormat.fitted(options, sizes, audio)

    def read(self, input_format: InputFormat, source: DataSource) -> Parts:
        """Read all files, split as the authors' own lists of held-out files say."""
        audio = input_format.audio

        def read_frames(file: FileLike) -> tuple[NDArray, int]:
            return read_log_mel(file, audio).numpy(), 1

        if has_media(source):
            return read_labeled_rows(source, input_format.data, read_frames)
        parts = read_labeled_files(source, AUDIO_SUFFIXES, read_frames)
        if not (lists := official_parts(source)):
            return parts
        inputs = parts.pop("train")
        part_of = {location: part for part, names in lists.items() for location in names}
        rows: dict[str, list[int]] = {"train": []}
        for row, location in enumerate(inputs.locations):
            rows.setdefault(part_of.get(location, "train"), []).append(row)
        return parts | {part: inputs.select(part_rows) for part, part_rows in rows.items()}

    def read_unlabeled(self, input_format: InputFormat, source: DataSource) -> LocatedInputs:
        """Read a WAV file, or all of a folder or of a table."""
        for location, file in unlabeled_files(source, input_format.data, AUDIO_SUFFIXES):
            yield location, read_log_mel(file, input_format.audio).numpy()

    def describe(self, values: Sequence[NDArray], input_format: InputFormat) -> str:
        """Describe sample rate and durations of frames of shape ``[length, features]``."""
        audio = input_format.audio
        # Frame i is centred on sample i * hop_size, the first on the beginning.
        seconds = [(len(value) - 1) * audio.hop_size / audio.sample_rate for value in values]
        return (
            f"{audio.sample_rate:,} samples a second; {min(seconds):.2f} to {max(seconds):.2f} s "
            f"long, median {np.median(seconds):.2f} s"
        )
