"""What the tests of readers share."""

import pytest

from regard.data.readers.series_tables import read_time_series


@pytest.fixture
def inside_an_empty_folder(tmp_path, monkeypatch):
    """The working directory is an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def read_series(tmp_path):
    """Reads a text as a file; lists of lines are joined."""

    def read_text(text, name="f.csv", **options):
        path = tmp_path / name
        path.write_text(text if isinstance(text, str) else "\n".join(text) + "\n")
        return read_time_series(path, **options)

    return read_text
