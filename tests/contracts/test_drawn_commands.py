"""Drawn commands on drawn files and damaged folders end with an exit code and a sentence.

A hundred draws by default; ``--hypothesis-profile=many`` (``make draws``) takes two thousand.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import sys
import tempfile
import traceback
import warnings
import wave
import zlib
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tests.conftest import toy_pairs

from regard.__main__ import main
from regard.runs.run import train

EXIT_CODES = {0, 2, 3, 4, 5, 130, 143}
SMALL = ("preset=tiny", "model.dim=16", "model.hidden_dim=32", "model.num_heads=2")
LM_SETTINGS = (*SMALL, "model.num_layers=1", "training.epochs=1", "training.batch_tokens=256")
DRY_RUN = ["--dry-run", *(word for setting in SMALL for word in ("--set", setting))]
BEFORE = "what was there before\n"
OUTPUT = "out.txt"


@dataclass(frozen=True)
class Command:
    """A drawn command: its words, the files that it meets, and what standard input holds."""

    words: list[str]
    files: dict[str, bytes]
    damage: list[tuple[str, str, int]] = field(default_factory=list)
    stdin: bytes = b""
    has_output: bool = False


# --- small files of every format ------------------------------------------------------------------

WORDS = st.sampled_from(["cat", "dog", "red", "3", "Haus", "grün", "猫", "", " ", "a\u00a0b", '"'])
ODD_WORDS = st.sampled_from(["\u200b", "\x00", "\ufeff", "<b>", "=1+1", "\x1b[31m", "e\u0301", "'"])
CELLS = st.lists(WORDS | ODD_WORDS, max_size=4).map(" ".join)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=12)
HEADERS = st.sampled_from([[], ["source", "target"], ["Text", "Label"], ["en", "de"], ["a", "a"]])


def toy_rows(count: int) -> list[list[str]]:
    return [list(pair) for pair in toy_pairs(count)]


def table(separator: str, header: list[str], rows: list[list[str]]) -> bytes:
    return "".join(separator.join(row) + "\n" for row in [header, *rows] if row).encode()


def records(header: list[str], rows: list[list[str]]) -> bytes:
    names = header or ["text", "label"]
    lines = [json.dumps(dict(zip(names, row, strict=False))) for row in rows]
    return "\n".join(lines).encode()


def units(shape: str, rows: list[list[str]]) -> bytes:
    """Return rows in one of the formats of translation memories, catalogs and subtitles."""
    beginning, entry, end = {
        "po": ('msgid ""\nmsgstr ""\n\n', 'msgid "{0}"\nmsgstr ""\n\n', ""),
        "srt": ("", "{1}\n00:00:01,000 --> 00:00:02,000\n{0}\n\n", ""),
        "xliff": (
            '<xliff version="1.2"><file><body>',
            '<trans-unit id="{1}"><source>{0}</source></trans-unit>',
            "</body></file></xliff>",
        ),
        "tmx": ("<tmx><body>", "<tu><tuv><seg>{0}</seg></tuv></tu>", "</body></tmx>"),
    }[shape]
    body = [entry.format(row[0], number) for number, row in enumerate(rows)]
    return "".join([beginning, *body, end]).encode()


def png(width: int, height: int) -> bytes:
    """Return a gray image, whose header may state any size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(min(width, 50))) * min(height, 50))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def recording(num_samples: int) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(2 * num_samples))
    return stream.getvalue()


@st.composite
def data_files(draw) -> tuple[str, dict[str, bytes]]:
    """Draw the name of a file or folder of data, and its files."""
    rows, header = toy_rows(draw(st.sampled_from([12, 30, 40]))), []
    shape = draw(st.sampled_from(["pairs", "labels", "named pairs", "drawn"]))
    if shape == "drawn":
        rows, header = draw(ROWS), draw(HEADERS)
    elif shape == "labels":
        rows, header = [[text, text.split()[1]] for text, _ in rows], ["text", "label"]
    elif shape == "named pairs":
        header = ["source", "target"]
    content = {
        "tsv": table("\t", header, rows),
        "csv": table(",", header, rows),
        "jsonl": records(header, rows),
        "txt": "".join(" ".join(row) + "\n" for row in rows).encode(),
        **{shape: units(shape, rows) for shape in ("po", "srt", "xliff", "tmx")},
        "toml": b'task = "translation"\n',
        "gz": b"\x1f\x8b" + table("\t", header, rows),
    }
    kind = draw(st.sampled_from([*content, "tsv", "jsonl", "images", "sounds", "idx", "missing"]))
    if kind == "missing":
        return draw(st.sampled_from(["none.tsv", "no/such.txt", "", "\u00e9.csv", "a\nb"])), {}
    if kind == "images":
        sizes = [draw(st.sampled_from([1, 3, 50, 9_000, 70_000])) for _ in range(3)]
        files = {f"d/{'ab'[i % 2]}/{i}.png": png(size, size) for i, size in enumerate(sizes)}
    elif kind == "sounds":
        files = {f"d/{'ab'[i % 2]}/{i}.wav": recording(draw(st.integers(0, 900))) for i in range(3)}
    elif kind == "idx":
        shape = [draw(st.sampled_from([0, 2, 2**31])) for _ in range(3)]
        files = {
            "d/train-images-idx3-ubyte": b"\0\0\x08\x03" + struct.pack(">3I", *shape) + bytes(8),
            "d/train-labels-idx1-ubyte": b"\0\0\x08\x01" + struct.pack(">I", shape[0]) + bytes(2),
        }
    else:
        files = {f"d.{kind}": content[kind]}
    if draw(st.integers(0, 2)) == 2:
        name = draw(st.sampled_from(sorted(files)))
        files[name] = damaged(files[name], *draw(DAMAGES))
    return "d" if kind in ("images", "sounds", "idx") else next(iter(files)), files


# --- damage ---------------------------------------------------------------------------------------

DAMAGES = st.tuples(
    st.sampled_from(["flip", "cut", "empty", "repeat", "insert", "latin"]),
    st.integers(0, 10**6),
)


def damaged(content: bytes, kind: str, place: int) -> bytes:
    """Return a content with one fault, at a place that is taken modulo its length."""
    place %= max(1, len(content))
    if kind == "flip" and content:
        flipped = content[place] ^ (1 << place % 8)
        return content[:place] + bytes([flipped]) + content[place + 1 :]
    if kind == "repeat":
        return content[:place] + content
    if kind == "insert":
        return content[:place] + b"9" + content[place:]
    if kind == "latin":
        return content[:place] + b"\xe9\xff" + content[place:]
    return b"" if kind == "empty" else content[:place]


FOLDER_FILES = (
    "config.toml",
    "tokenizer.json",
    "model.safetensors",
    "metrics.jsonl",
    "manifest.json",
    "checkpoints/last.safetensors",
)
FOLDER_DAMAGES = st.tuples(
    st.sampled_from(FOLDER_FILES),
    st.sampled_from(
        ["flip", "flip", "cut", "empty", "insert", "latin", "delete", "swap", "folder", "link"]
    ),
    st.integers(0, 10**6),
)


def damage_folder(folder: Path, name: str, kind: str, place: int) -> None:
    """Damage one file of a folder whose files are links, so that the originals stay."""
    path = folder / name
    content = path.read_bytes() if path.is_file() else b""
    if path.is_dir():
        return
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(path.name)
    elif kind == "swap":
        other = folder / FOLDER_FILES[place % len(FOLDER_FILES)]
        path.write_bytes(other.read_bytes() if other.is_file() else content)
    elif kind != "delete":
        path.write_bytes(damaged(content, kind, place))


# --- commands -------------------------------------------------------------------------------------

NUMBERS = st.sampled_from(["0", "1", "2", "-1", "0.5", "nan", "inf", "1e400", "x", "", "9" * 40])
NAMES = st.sampled_from(["", "en-de", "text", "1,2", "text,label", "latin1", "utf-16", "klingon"])
SETTINGS = st.sampled_from(
    [
        "training.epochs=1",
        "optimizer.lerning_rate=1",
        "model.dim=0",
        "attention.pattern=local:0",
        "attention.pattern=" + "[" * 2_000,
        "data.max_length=8",
        "task=classification",
        "task=language-modeling",
        "preset",
        "=",
        "model.family=lstm",
        "data.path=none",
        "a" + ".a" * 1_000 + "=1",
    ]
)
FLAGS = {
    "translate": ("--align", "--as-text", "--json"),
    "classify": ("--as-text", "--json"),
    "generate": ("--json",),
    "evaluate": ("--drop-overlap", "--allow-overlap", "--json"),
    "check": ("--drop-overlap", "--json"),
    "info": ("--json", "--accept"),
    "export": ("--json",),
    "train": ("--json", "--resume"),
}
VALUES = {
    "translate": ("--beam", "--nbest", "--length-penalty", "--encoding"),
    "classify": ("--top", "--encoding"),
    "generate": ("--max-tokens", "--temperature", "--top-k", "--top-p", "--num", "--seed"),
    "evaluate": ("--beam", "--worst", "--compare", "--plot"),
    "check": ("--lang", "--columns", "--encoding", "--set", "--valid"),
    "info": ("--length", "--diagram"),
    "export": ("--to",),
    "train": ("--seed", "--minutes", "--preset", "--set", "--lang", "--test", "--config", "--from"),
}


FITTING = {
    "--encoding": ("utf-8", "latin1", "utf-16"),
    "--length-penalty": ("0", "1.5"),
    "--temperature": ("0", "0.7"),
    "--top-p": ("0.5", "1"),
    "--lang": ("en-de", "de-en"),
    "--columns": ("text,label", "source,target", "2,1"),
    "--preset": ("tiny", "auto"),
    "--diagram": ("mermaid", "svg"),
    "--plot": ("p.svg", "p.txt", "no/p.svg"),
    "--to": ("hf", "ctranslate2"),
    "--minutes": ("0.01", "1"),
    **dict.fromkeys(("--from", "--compare"), ("m", "d")),
    **dict.fromkeys(("--valid", "--test"), ("d.tsv", "d.jsonl", "m")),
    "--config": ("m/config.toml", "d.toml"),
}


@st.composite
def options(draw, verb: str) -> list[str]:
    """Draw options of a verb with values that fit most often, one of them perhaps misspelt."""
    words: list[str] = []
    for name in draw(st.lists(st.sampled_from([*FLAGS[verb], *VALUES[verb]]), max_size=2)):
        is_misspelt = draw(st.integers(0, 19)) == 19
        words.append(name[:4] + name[5:] if is_misspelt else name)
        if name == "--set":
            words.append(draw(SETTINGS))
        elif name in VALUES[verb]:
            is_fitting = draw(st.integers(0, 3)) < 3
            fitting = st.sampled_from(FITTING.get(name, ("1", "2")))
            words.append(draw(fitting if is_fitting else NUMBERS | NAMES))
    return words


@st.composite
def commands(draw) -> Command:
    """Draw a verb, its options and files, and damage to the model folder."""
    verb = draw(st.sampled_from(sorted(FLAGS)))
    name, files = draw(data_files())
    texts = st.sampled_from(
        ["3 red cat", "-", "-5", "--", "missing.txt", "", "\u3000", "a\nb", "m"]
    )
    model = (
        "m"
        if draw(st.integers(0, 19)) < 19
        else draw(st.sampled_from(["", "d", "x/y", "/dev/null"]))
    )
    words = [verb]
    if verb in ("translate", "classify", "generate"):
        words += [model, draw(texts | st.just(name))]
    elif verb == "evaluate":
        words += [model, name]
    elif verb in ("info", "export"):
        words += [model]
    else:
        words += [draw(st.sampled_from([name, "-"]) | st.just(name))]
    words += draw(options(verb))
    if verb == "train" and "--resume" not in words:
        words += DRY_RUN
    has_output = verb == "translate" and draw(st.booleans())
    if has_output:
        words += ["-o", OUTPUT]
    elif verb in ("export", "train") and draw(st.booleans()):
        words += ["-o", draw(st.sampled_from(["m", "new", "", "d", "/dev/null/x"]))]
    damage = draw(st.lists(FOLDER_DAMAGES, max_size=1) | st.lists(FOLDER_DAMAGES, max_size=2))
    if damage and draw(st.integers(0, 3)):
        damage.append(("manifest.json", "delete", 0))  # nothing guards the other files then
    stdin = draw(st.sampled_from([b"", b"3 red cat\n", b"\xff\n", b"\n\n", b"a\tb\n" * 12]))
    return Command(words, files, damage, stdin, has_output)


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory) -> list[Path]:
    """Folders of a translator, a language model and a classifier."""
    root = tmp_path_factory.mktemp("drawn")
    text, labels = root / "text.txt", root / "labels.tsv"
    text.write_text("".join(f"{source}.\n" for source, _ in toy_pairs(30)))
    rows = [f"{source}\t{source.split()[1]}\n" for source, _ in toy_pairs(60)]
    labels.write_text("".join(["text\tlabel\n", *rows]))
    train(text, root / "tales", settings=LM_SETTINGS)
    train(labels, root / "mood", settings=LM_SETTINGS)
    return [trained, root / "tales", root / "mood"]


def run(command: Command) -> tuple[int, str, str]:
    """Run a command in this process, in the present folder."""
    out, err = io.StringIO(), io.StringIO()
    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(command.stdin), "utf-8")
    try:
        with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err):
            warnings.simplefilter("always")
            code = main(command.words)
    except BaseException:
        note(traceback.format_exc())
        raise
    finally:
        sys.stdin = stdin
    return code, out.getvalue(), err.getvalue()


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@given(st.data())
@settings(
    derandomize=settings.default.max_examples <= 100,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
def test_a_drawn_command_ends_with_a_code_and_a_sentence(models, data):
    command = data.draw(commands())
    wanted = {"generate": 1, "classify": 2, "translate": 0}.get(command.words[0])
    model = models[data.draw(st.integers(0, 2)) if wanted is None else wanted]
    with tempfile.TemporaryDirectory(dir=models[1].parent) as name:
        root = Path(name)
        shutil.copytree(model, root / "m", copy_function=os.link)
        for damage in command.damage:
            damage_folder(root / "m", *damage)
        for path, content in command.files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        (root / OUTPUT).write_text(BEFORE)
        with chdir(root):
            code, out, err = run(command)
        assert code in EXIT_CODES
        assert "Traceback" not in out + err
        assert code == 0 or err.strip()
        if code == 0 and "--json" in command.words and "--" not in command.words:
            reads_nothing = "-" in command.words and not command.stdin
            objects = [json.loads(line) for line in out.splitlines() if line]
            assert objects or command.has_output or reads_nothing
        if code != 0 or not command.has_output:
            assert (root / OUTPUT).read_text() == BEFORE
        assert code == 0 or not (root / "new").exists()
        assert not [path for path in root.rglob("*") if path.name.endswith(".tmp")]
