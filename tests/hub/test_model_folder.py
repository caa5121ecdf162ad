"""Model folders: a place where none can be made is told without making anything."""

from __future__ import annotations

import pytest

from regard.errors import ConfigError
from regard.hub.model_folder import ModelFolder


def refusal(act) -> str:
    with pytest.raises(ConfigError) as caught:
        act()
    return str(caught.value)


@pytest.mark.parametrize("name", ["file", "file/model", "file/deep/er", "taken"])
def test_a_place_is_refused_as_making_the_folder_would_be(name, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "checkpoints").write_text("")
    folder = ModelFolder(tmp_path / name)
    assert refusal(folder.require_place) == refusal(folder.create)


@pytest.mark.parametrize("name", ["new", "new/deep/er", ".", "made"])
def test_a_place_that_is_free_passes_and_nothing_is_made(name, tmp_path):
    (tmp_path / "made" / "checkpoints").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    folder = ModelFolder(tmp_path / name)
    folder.require_place()
    assert sorted(tmp_path.rglob("*")) == before
    folder.create()


def test_a_folder_without_the_right_to_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    assert refusal(ModelFolder(tmp_path / "new" / "model").require_place) == (
        f"{tmp_path}/new/model: cannot be written (Permission denied).  "
        "Choose another folder with -o."
    )
