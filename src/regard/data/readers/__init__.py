"""Readers of files, one module a format.

`FORMATS` is the format of a file by its suffix. Files of other names, and standard input, are
recognized by their first line. A name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import Registry, import_lazily

if TYPE_CHECKING:
    from regard.data.readers.audio import LogMelConfig, Recording, log_mel, read_log_mel, read_wav
    from regard.data.readers.html_text import read_html
    from regard.data.readers.idx import find_idx, read_idx_part
    from regard.data.readers.images import Image, ImageSize, read_image, read_image_size
    from regard.data.readers.labeled import read_labeled_texts
    from regard.data.readers.labeled_folders import LabeledFile, labeled_files
    from regard.data.readers.media_files import write_media
    from regard.data.readers.memory import source_of_rows
    from regard.data.readers.problems import RowProblem, UnreadableRowsError, list_problems
    from regard.data.readers.questions import ReadQuestions, read_asked, read_questions
    from regard.data.readers.running_text import TextLines, read_text
    from regard.data.readers.series import NumberRow, read_number_rows, read_unlabeled_rows
    from regard.data.readers.series_tables import TimeSeriesFile, read_time_series
    from regard.data.readers.shape import DataShape, inspect_shape
    from regard.data.readers.source import DataSource, open_source
    from regard.data.readers.table_format import TableReader
    from regard.data.readers.tables import parse_pairs, read_pairs, read_records
    from regard.data.readers.text_lines import TextFile, read_lines

import_lazily(__name__)

__all__ = [
    "FORMATS",
    "ROW_FORMATS",
    "TABLE_READERS",
    "DataShape",
    "DataSource",
    "Image",
    "ImageSize",
    "LabeledFile",
    "LogMelConfig",
    "NumberRow",
    "ReadQuestions",
    "Recording",
    "RowProblem",
    "TextFile",
    "TextLines",
    "TimeSeriesFile",
    "UnreadableRowsError",
    "find_idx",
    "inspect_shape",
    "labeled_files",
    "list_problems",
    "log_mel",
    "open_source",
    "parse_pairs",
    "read_asked",
    "read_html",
    "read_idx_part",
    "read_image",
    "read_image_size",
    "read_labeled_texts",
    "read_lines",
    "read_log_mel",
    "read_number_rows",
    "read_pairs",
    "read_questions",
    "read_records",
    "read_text",
    "read_time_series",
    "read_unlabeled_rows",
    "read_wav",
    "source_of_rows",
    "write_media",
]

_IMAGES = ".png .jpg .jpeg .bmp .gif .pbm .pgm .ppm .tif .tiff .webp"

FORMATS: dict[str, str] = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".md": "text",
    ".text": "text",
    **dict.fromkeys((".parquet", ".parq", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "arrow"),
    ".wav": "audio",
    ".wave": "audio",
    **dict.fromkeys(_IMAGES.split(), "image"),
}
"""The format of a file by its suffix."""
ROW_FORMATS = frozenset(["parquet", "arrow"])
"""Formats whose rows become objects of JSON when a file is opened."""
TABLE_READERS: Registry[TableReader] = Registry(
    {
        "tsv": "regard.data.readers.delimited.read_tsv",
        "csv": "regard.data.readers.delimited.read_csv",
        "fasttext": "regard.data.readers.fasttext.read_fasttext",  # known by its first line
    }
)
"""Readers of rows by format."""
