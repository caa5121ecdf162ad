"""Files that hold rows where one text a line is expected."""

import json
import subprocess

import pytest

from regard.data.readers.plain_lines import require_plain_lines
from regard.data.readers.source import open_source
from regard.data.readers.tables import read_pairs
from regard.errors import DataError
from regard.runs.text_check import require_texts

OBJECTS = "".join(json.dumps({"id": i, "text": f"a\nb {i}"}) + "\n" for i in range(3))
ROWS = {
    "a.jsonl": (OBJECTS, "JSON, an object a line"),
    "a.txt": (OBJECTS, "JSON, an object a line"),
    "a.en": (OBJECTS, "JSON, an object a line"),
    "a.json": ('[\n{"text": "a"}\n]\n', "JSON"),
    "a.csv": ("source,target\na,b\n", "CSV"),
    "a.tsv": ("a\tb\n", "TSV"),
    "b.txt": ("__label__x a b\n__label__y c\n", "texts with labels of fastText"),
    "a.po": ('msgid ""\nmsgstr ""\n', "translations in gettext's PO"),
    "a.xlf": ("<xliff><trans-unit><source>a</source></trans-unit></xliff>\n", "XLIFF"),
}
LINES = {
    "a.txt": '{"one": "object in a text"}\nand a text\n',
    "a.tsv": "one column\nof text\n",
    "a.en": "[\n{0} files\n",
    "b.txt": "a\tb\n",
    "c.txt": "",
}


@pytest.mark.parametrize(("name", "content", "contents"), [(n, *c) for n, c in ROWS.items()])
def test_rows_are_not_read_as_lines_of_text(tmp_path, name, content, contents):
    path, lines = tmp_path / name, tmp_path / "lines.txt"
    path.write_text(content)
    lines.write_text("x\n" * len(content.splitlines()))
    for read in (
        lambda: require_texts(str(path)),
        lambda: read_pairs(path, targets=lines),
        lambda: read_pairs(lines, targets=path),
    ):
        with pytest.raises(DataError) as raised:
            read()
        assert str(raised.value).startswith(f"{path}: {contents}, not one text a line.")


@pytest.mark.parametrize(("name", "content"), LINES.items())
def test_lines_of_text_are_read_whatever_they_hold(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    require_plain_lines(open_source(path))


def test_the_command_writes_one_text_a_line(tmp_path):
    path = tmp_path / "a b.jsonl"
    path.write_text(OBJECTS)
    with pytest.raises(DataError) as raised:
        require_plain_lines(open_source(path))
    command = str(raised.value).split("Its texts: ")[1]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "a b.txt").read_text() == "a b 0\na b 1\na b 2\n"
