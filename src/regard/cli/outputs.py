"""Output of verbs: files that appear complete or not at all, and labels on one line."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import msgspec

from regard.cli.progress import ProgressLine
from regard.data.listing import pluralize
from regard.errors import ConfigError, RegardError, ResourceError
from regard.hub.file_names import (
    ADDED_TOKENS,
    CONFIG,
    CTRANSLATE2_MODEL,
    CTRANSLATE2_VOCABULARY,
    CTRANSLATE2_WRITER_VOCABULARY,
    GENERATION_CONFIG,
    GRAPH_NAMES,
    HF_CONFIG,
    MANIFEST,
    MARIAN_SOURCE,
    MARIAN_TARGET,
    MERGES,
    METRICS,
    MODEL_CARD,
    ONNX_SUFFIX,
    ONNX_WEIGHTS_SUFFIX,
    PREPROCESSOR_CONFIG,
    README_MARK,
    SENTENCE_MODULES,
    SENTENCEPIECE_FAIRSEQ,
    SENTENCEPIECE_LLAMA,
    SENTENCEPIECE_T5,
    SPECIAL_TOKENS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TORCH_SUFFIX,
    VOCABULARY,
    WORD_PIECES,
)

_GRAPH_SUFFIXES = (ONNX_SUFFIX, ONNX_WEIGHTS_SUFFIX, TORCH_SUFFIX)
_MODEL_FILES = {CONFIG, TOKENIZER, METRICS, MANIFEST, HF_CONFIG, GENERATION_CONFIG} | {
    *(TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS, PREPROCESSOR_CONFIG, SENTENCE_MODULES),
    *(CTRANSLATE2_MODEL, CTRANSLATE2_VOCABULARY, CTRANSLATE2_WRITER_VOCABULARY),
    *(f"{name}{suffix}" for name in GRAPH_NAMES for suffix in _GRAPH_SUFFIXES),
    *(WORD_PIECES, VOCABULARY, MERGES, MARIAN_SOURCE, MARIAN_TARGET),
    *(SENTENCEPIECE_T5, SENTENCEPIECE_LLAMA, SENTENCEPIECE_FAIRSEQ),
}
_WEIGHTS_NAME = re.compile(r"model.*\.safetensors(\.index\.json)?")
_LINE_BREAKS = re.compile("[\t\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def escape(text: str) -> str:
    """Return a text with its tabs and line ends escaped, so that it is one cell of one line.

    >>> escape("very\\tgood")
    'very\\\\tgood'
    """
    return _LINE_BREAKS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def as_json(value: object) -> str:
    """Return a value as one line of JSON."""
    return msgspec.json.encode(value).decode()


def print_note(text: str) -> None:
    """Say on standard error what a person may want to know."""
    print(f"regard: note: {text}", file=sys.stderr)


def print_warning(text: str) -> None:
    """Say on standard error what may make an output wrong."""
    print(f"regard: warning: {text}", file=sys.stderr)


@contextmanager
def replacing(name: str) -> Iterator[TextIO]:
    """Open a temporary file that takes a name once the body has succeeded.

    What has the name before is there until then, so the body may read it. A pipe or a device is
    written directly; the file that a link leads to is replaced, and not the link. The temporary
    file is in a folder of its own; those of killed processes are removed.

    Args:
        name: Name of the file.

    Yields:
        The file, for text.

    Raises:
        ConfigError: The name is that of a folder or of a model's file, or its folder cannot be
            written.
        ResourceError: The disk is full, or fails.
        BrokenPipeError: The reader of a pipe left.
    """
    path = Path(os.path.realpath(name))
    folder = _temporary_folder(path)
    temporary = folder / path.name
    try:
        mode = path.stat().st_mode if path.exists() else None
        if path.is_dir():
            raise ConfigError(f"{name}: a folder, not a file.  Name a file.")
        if path.exists() and _is_of_model(path):
            raise ConfigError(f"{name}: a file of a model, which needs it.  Name another file.")
        if mode is not None and not stat.S_ISREG(mode):
            with path.open("w", encoding="utf-8", newline="\n") as stream:
                yield stream
            return
        _sweep(path.parent)
        folder.mkdir()
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(path)
    except BrokenPipeError:  # the reader of a pipe left
        raise
    except OSError as error:
        kind = ConfigError if error.filename is not None else ResourceError
        raise kind(f"{name}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder(path: Path) -> Path:
    """Return the folder in which a file or folder is written; `sweep_temporaries` knows it."""
    return path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")


def _sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder that is written."""
    from regard.hub.storage import sweep_temporaries  # loads torch, which every writer has

    sweep_temporaries(folder)


def _is_of_model(path: Path) -> bool:
    """Return whether a model folder, regard's or a published one, is opened with a file."""
    is_model_folder = any((path.parent / name).exists() for name in (CONFIG, HF_CONFIG))
    return is_model_folder and (path.suffix == ".safetensors" or path.name in _MODEL_FILES)


@contextmanager
def replacing_folder(name: str) -> Iterator[Path]:
    """Provide a temporary folder whose files get into a folder once the body has succeeded.

    Until then the folder is unchanged. Its files of other names stay, except for those of a model,
    which would belong to another one.

    Args:
        name: Name of the folder, created as needed.

    Yields:
        The temporary folder, next to the other.

    Raises:
        ConfigError: The name is that of a file, or the folder cannot be written.
        ResourceError: The disk is full.
        RegardError: One of the body, with the name in place of the temporary folder.
    """
    path = Path(os.path.realpath(name))
    temporary = _temporary_folder(path)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{name}: a file, not a folder.  Name a folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary.mkdir()
        yield temporary
        if not path.exists():
            temporary.rename(path)
            return
        _move_files(temporary, path)
    except RegardError as error:
        message = str(error).replace(str(temporary), name)
        raise type(error)(message, *error.next_steps) from error
    except OSError as error:
        kind = ResourceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else ConfigError
        raise kind(f"{name}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_readme_of_export(path: Path) -> bool:
    """Return whether a file is the README that an export wrote."""
    if path.name != MODEL_CARD or not path.is_file():
        return False
    return path.read_text(encoding="utf-8", errors="replace").startswith(README_MARK)


def _move_files(source: Path, target: Path) -> None:
    """Move all files and folders of a folder to another one, in place of the model there."""
    for old in target.iterdir():
        is_of_model = old.name in _MODEL_FILES or _WEIGHTS_NAME.fullmatch(old.name)
        if is_of_model or is_readme_of_export(old):
            old.unlink()
    for path in source.iterdir():
        if path.is_dir():
            shutil.rmtree(target / path.name, ignore_errors=True)
        path.replace(target / path.name)


def write_rows(rows: Iterable[str], output: str | None) -> None:
    """Write rows to standard output, or to a file with progress on standard error.

    Args:
        rows: Each without the end of the line.
        output: Name of the file; None and ``-`` are standard output.
    """
    if output in (None, "-"):
        for row in rows:
            print(row, flush=True)
        return
    progress = Progress("line")
    with replacing(output) as stream:
        for row in rows:
            print(row, file=stream)
            progress.advance()
    progress.finish(f"{output}: {pluralize(progress.count, 'line')} written")


class Progress:
    """Shows on standard error how many lines or sentences are done: on a terminal in place.

    Args:
        noun: What is counted.
    """

    def __init__(self, noun: str) -> None:
        self.count = 0
        self._noun = noun
        self._line = ProgressLine(seconds=0.5)
        self._start = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count what has been done."""
        self.count += count
        if self._line.is_due():
            rate = self.count / (time.monotonic() - self._start)
            self._line.show(f"{self.count:,} {self._noun}s   {rate:,.1f} {self._noun}s/s")

    def finish(self, text: str) -> None:
        """Show a last line."""
        self._line.show(text, is_last=True)
