"""Texts of a command: words, files, fields of records and devices."""

from __future__ import annotations

import gzip
import io
import json
import sys
from types import SimpleNamespace

import pytest
from tests.cli.commands import feed, run

from regard.cli.answer import read_context
from regard.cli.inputs import TEXT_DEFAULTS, TextOptions, input_documents, input_lines
from regard.data.readers import FORMATS, TABLE_READERS
from regard.errors import DataError


def test_a_word_like_a_missing_file_is_translated_with_a_note(capsys, trained):
    code, out, err = run(capsys, "translate", trained, "missing.txt", "--beam", 1)
    assert (code, out.count("\n")) == (0, 1)
    assert err == "regard: note: missing.txt: no such file, so it is a text.\n"


def test_the_source_field_of_records_is_translated(capsys, trained, tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": i, "source": f"{i} red cat", "target": "x"} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = run(capsys, "translate", trained, path, "--beam", 1, "--json")
    assert code == 0
    texts = [json.loads(line)["text"] for line in out.splitlines()]
    assert texts == ["0 red cat", "1 red cat", "2 red cat"]


def test_a_table_in_a_format_of_ones_own_gives_the_texts_of_a_field(monkeypatch, tmp_path):
    def read_bars(_file, lines, _separator):
        return ((line, text.strip().split("|")) for line, text in lines)

    monkeypatch.setitem(FORMATS, ".bars", "bars")
    monkeypatch.setitem(TABLE_READERS, "bars", read_bars)
    path = tmp_path / "table.bars"
    path.write_text("id|source\n1|a cat\n2|a dog\n")
    assert list(input_lines(str(path), TEXT_DEFAULTS, role="source")) == ["a cat", "a dog"]
    path.write_text("id|document\n1|a cat\n2|a dog\n")
    assert list(input_documents(str(path), TEXT_DEFAULTS)) == ["a cat", "a dog"]


@pytest.mark.parametrize("name", ["m.txt", "m.txt.gz"])
def test_the_label_of_fasttext_is_no_part_of_a_text(name, tmp_path, capsys):
    content = b"__label__good a cat\n__label__bad a dog\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert list(input_lines(str(path), TEXT_DEFAULTS, role="text")) == ["a cat", "a dog"]
    assert capsys.readouterr().err == f"regard: note: {path}: read as a table, column text.\n"


@pytest.mark.parametrize(
    "content",
    ["__label__good a cat\n__label__bad a dog\n", '{"text": "a cat"}\n{"text": "a dog"}\n'],
)
def test_records_from_standard_input_are_read_as_those_of_a_file(
    content, tmp_path, capsys, monkeypatch
):
    path = tmp_path / ("m.jsonl" if content.startswith("{") else "m.txt")
    path.write_text(content)
    for text, name in ((str(path), path), ("-", "-"), (None, "-")):
        feed(monkeypatch, content)
        assert list(input_lines(text, TEXT_DEFAULTS, role="text")) == ["a cat", "a dog"]
        assert capsys.readouterr().err == f"regard: note: {name}: read as a table, column text.\n"
    feed(monkeypatch, content)
    assert list(input_documents("-", TEXT_DEFAULTS)) == ["a cat", "a dog"]
    feed(monkeypatch, content)
    texts = input_lines(None, TextOptions(as_text=True), role="text")
    assert list(texts) == content.splitlines()


def test_a_byte_order_mark_hides_no_label(tmp_path):
    path = tmp_path / "m.txt"
    path.write_text("\n__label__good a cat\n", encoding="utf-8-sig")
    assert list(input_lines(str(path), TEXT_DEFAULTS, role="text")) == ["a cat"]


def test_a_packed_stream_is_told_to_be_unpacked(capsys, trained, monkeypatch):
    packed = io.BytesIO(gzip.compress(b"a cat\n"))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=packed, closed=False))
    code, _, err = run(capsys, "translate", trained, "-")
    message = "regard: -: a file packed by gzip, not text.  Unpack it: gzip -dc.\n"
    assert (code, err) == (3, message)


def test_a_device_is_no_data(capsys, trained):
    for words in (("check", "/dev/zero"), ("translate", trained, "/dev/zero")):
        code, _, err = run(capsys, *words)
        assert (code, err) == (3, "regard: /dev/zero: a device, not a file.  Name a file.\n")


@pytest.mark.parametrize("name", ["page.html", "page"])
def test_a_page_of_html_is_its_text(tmp_path, capsys, name):
    page = tmp_path / name
    page.write_text("<!DOCTYPE html><html><style>p{}</style><p>A <b>cat</b> &amp;\n a dog</p>end")
    lines = ["A cat & a dog", "end"]
    assert list(input_lines(str(page), TextOptions(), role="text")) == lines
    assert capsys.readouterr().err == (
        f"regard: note: {page}: read as HTML, its text without tags.\n"
    )
    assert list(input_documents(str(page), TextOptions())) == ["\n".join(lines)]
    assert read_context(str(page), "utf-8") == "\n".join(lines)


def test_the_units_of_a_translation_memory_give_their_sources(tmp_path, capsys):
    memory = tmp_path / "m.tmx"
    unit = (
        '<tu><tuv xml:lang="{}"><seg>one {}</seg></tuv><tuv xml:lang="de"><seg>x</seg></tuv></tu>'
    )
    memory.write_text(f"<tmx>{unit.format('en', 1)}\n{unit.format('en', 2)}</tmx>")
    assert list(input_lines(str(memory), TextOptions(), role="text")) == ["one 1", "one 2"]
    assert "read as a table, column en" in capsys.readouterr().err


def test_a_format_that_is_not_lines_of_text_is_no_text(tmp_path):
    catalog = tmp_path / "app.po"
    catalog.write_text('msgid "a"\nmsgstr ""\n')
    with pytest.raises(DataError, match="gettext's PO, not one text a line"):
        input_lines(str(catalog), TextOptions(), role="text")


@pytest.mark.parametrize(("header", "columns"), [("", ("2", "1")), ("k,words\n", ("words", "k"))])
def test_the_field_of_a_table_is_the_column_that_the_model_was_trained_on(
    tmp_path, header, columns
):
    table = tmp_path / "a.csv"
    table.write_text(f"{header}x,some text\ny,more text\n")
    lines = input_lines(str(table), TextOptions(), role="text", columns=columns)
    assert list(lines) == ["some text", "more text"]
