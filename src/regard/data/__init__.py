"""From a file on disk to a `Batch` of token ids: rows, their split, the tokenizer, batches.

Files are read by `regard.data.readers`. A name is loaded when it is first used, since most readers
need no torch.
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.data import readers
    from regard.data.batching import Batch, LengthBatches, PairBatches, SpecialIds, TokenRows
    from regard.data.dropped_rows import DroppedRow
    from regard.data.labeled_inputs import InputBatch, InputBatches, InputCollator, LabeledInputs
    from regard.data.labeled_text import LabeledTextBatch, LabeledTextBatches, LabeledTexts
    from regard.data.languages import guess_language, guess_pair
    from regard.data.masking import MaskedBatches
    from regard.data.parallel_corpus import ParallelCorpus
    from regard.data.question_rows import Questions
    from regard.data.rows import Rows
    from regard.data.seasons import find_seasons
    from regard.data.splits import Splits, clean, exclude_overlap, overlap, split
    from regard.data.text_splits import split_text
    from regard.data.time_series import TimeIndex, TimeSeries, TimeStep
    from regard.data.token_stream import StreamBatches, TextBatch, TokenStream
    from regard.data.tokenizer import Tokenizer, TokenizerConfig, suggest_vocab_size

import_lazily(__name__, packages=["readers"])

__all__ = [
    "Batch",
    "DroppedRow",
    "InputBatch",
    "InputBatches",
    "InputCollator",
    "LabeledInputs",
    "LabeledTextBatch",
    "LabeledTextBatches",
    "LabeledTexts",
    "LengthBatches",
    "MaskedBatches",
    "PairBatches",
    "ParallelCorpus",
    "Questions",
    "Rows",
    "SpecialIds",
    "Splits",
    "StreamBatches",
    "TextBatch",
    "TimeIndex",
    "TimeSeries",
    "TimeStep",
    "TokenRows",
    "TokenStream",
    "Tokenizer",
    "TokenizerConfig",
    "clean",
    "exclude_overlap",
    "find_seasons",
    "guess_language",
    "guess_pair",
    "overlap",
    "readers",
    "split",
    "split_text",
    "suggest_vocab_size",
]
