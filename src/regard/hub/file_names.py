"""Names of the files of a model folder, and of a folder in Hugging Face's layout."""

from __future__ import annotations

from pathlib import Path

# --- a model folder ---
CONFIG = "config.toml"
TOKENIZER = "tokenizer.json"  # in both layouts
WEIGHTS = "model.safetensors"  # in both layouts
METRICS = "metrics.jsonl"
CALIBRATION = "calibration.json"
MANIFEST = "manifest.json"
MODEL_CARD = "README.md"
DATA_REPORT = "data_report.txt"
CURVES = "curves.svg"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
"""Folder of event files."""
SOURCE_FOLDER = "source"
"""Folder with the vocabulary of the sources, where the targets have another."""

# --- a Hugging Face folder ---
HF_CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
WEIGHTS_INDEX = "model.safetensors.index.json"
SENTENCE_MODULES = "modules.json"  # of sentence-transformers
WORD_PIECES = "vocab.txt"  # WordPiece, one piece a line
VOCABULARY = "vocab.json"  # byte-pair encoding with MERGES, and Marian
MERGES = "merges.txt"
CTRANSLATE2_MODEL = "model.bin"
CTRANSLATE2_VOCABULARY, CTRANSLATE2_WRITER_VOCABULARY = "shared_vocabulary.json", "vocabulary.json"
GRAPH_NAMES = ("model", "encoder_model", "decoder_model_merged")
"""Names of the files of graphs, without their endings: `model` alone, or the other two."""
ONNX_SUFFIX, TORCH_SUFFIX = ".onnx", ".pt2"
ONNX_WEIGHTS_SUFFIX = ".onnx.data"
README_MARK = "<!-- written by regard export -->"
"""First line of a README that an export wrote, and another one may replace."""
EXPORTER = {"exported_by": "regard"}
"""Field of ``config.json`` by which an export is known, which another one may replace."""
MARIAN_SOURCE, MARIAN_TARGET = "source.spm", "target.spm"
SENTENCEPIECE_T5, SENTENCEPIECE_LLAMA = "spiece.model", "tokenizer.model"
SENTENCEPIECE_FAIRSEQ = "sentencepiece.bpe.model"  # with VOCABULARY: M2M100


def visible_names(folder: Path) -> list[str]:
    """Return the sorted names in a folder that begin with no dot; none without the folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in paths if not path.name.startswith("."))
