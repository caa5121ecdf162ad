"""The progress of long work on data."""

from __future__ import annotations

import pytest

from regard.data import progress
from regard.data.batching import parts_to_encode
from regard.data.progress import Stage, begin_stage, report_stages, tracked
from regard.data.readers.source import DataSource, open_source
from regard.data.readers.text_lines import numbered_lines, open_text
from regard.data.readers.translation_memory import convert_units


@pytest.fixture
def clock(monkeypatch):
    """Make every look at the clock of the progress three seconds later than the one before."""
    times = iter(range(0, 1_000_000, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))


@pytest.fixture
def stages():
    """Collect the stages that are reported."""
    collected: list[Stage] = []
    with report_stages(collected.append):
        yield collected


def test_what_is_quick_reports_nothing(stages):
    begin_stage("learning the vocabulary")
    assert list(tracked(range(30_000), "splitting the rows", 30_000)) == list(range(30_000))
    assert stages == []


@pytest.mark.usefixtures("clock")
def test_long_work_reports_what_is_done_of_how_much(stages):
    assert sum(tracked(range(20_000), "splitting the rows", 20_000)) == sum(range(20_000))
    assert stages[0] == Stage("splitting the rows", 0, 20_000)
    assert [stage.done for stage in stages] == list(range(0, 20_000, 256))


@pytest.mark.usefixtures("clock")
def test_few_items_are_counted_one_by_one(stages):
    list(tracked("abc", "evaluating", 3, "batches"))
    assert list(map(str, stages)) == [f"evaluating: {done} of 3 batches" for done in range(3)]


@pytest.mark.usefixtures("clock")
def test_a_stage_that_cannot_be_counted_has_its_name(stages):
    begin_stage("learning the vocabulary")
    assert list(map(str, stages)) == ["learning the vocabulary"]


@pytest.mark.usefixtures("clock")
def test_the_lines_of_a_large_file_are_counted_in_megabytes(stages):
    content = b"a line of twenty char\n" * 150_000
    lines = list(numbered_lines(open_text(DataSource("pairs.tsv", content), "utf-8")))
    assert len(lines) == 150_000
    assert str(stages[-1]) == "reading pairs.tsv: 3 of 3 MB"


@pytest.mark.usefixtures("clock")
def test_the_texts_that_are_encoded_together_are_counted(stages):
    texts = ["a" * 600_000, "b" * 600_000, "c"]
    assert list(parts_to_encode(texts, "encoding the sources")) == [range(0, 1), range(1, 3)]
    assert [(stage.name, stage.done, stage.total) for stage in stages] == [
        ("encoding the sources", 0, 3),
        ("encoding the sources", 1, 3),
    ]


def test_nobody_is_told_after_the_work(monkeypatch):
    collected: list[Stage] = []
    with report_stages(collected.append):
        pass
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0.0)
    list(tracked(range(10), "splitting the rows", 10))
    assert collected == []


@pytest.mark.usefixtures("clock")
def test_the_megabytes_of_a_translation_memory_are_counted(stages):
    unit = b'<tu><tuv xml:lang="en"><seg>a \xc3\xa4</seg></tuv></tu>\n'
    content = b"<tmx><body>" + unit * 40_000 + b"</body></tmx>"
    assert convert_units("a.tmx", content, lambda _: None).num_rows == 40_000
    assert str(stages[-1]) == "reading a.tmx: 2 of 2 MB"


@pytest.mark.usefixtures("clock")
def test_the_rows_of_a_table_are_counted(stages, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["a"] * 3_000}), tmp_path / "a.parquet")
    open_source(tmp_path / "a.parquet")
    assert str(stages[-1]) == f"reading {tmp_path}/a.parquet: 2,000 of 3,000 rows"
