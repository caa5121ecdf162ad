"""Model folders: a place where none can be made is told without making anything."""

from __future__ import annotations

import pytest

from regard.errors import ConfigError, WeightsError
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
    assert refusal(folder.check_writable) == refusal(folder.create)


@pytest.mark.parametrize("name", ["new", "new/deep/er", ".", "made"])
def test_a_place_that_is_free_passes_and_nothing_is_made(name, tmp_path):
    (tmp_path / "made" / "checkpoints").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    folder = ModelFolder(tmp_path / name)
    folder.check_writable()
    assert sorted(tmp_path.rglob("*")) == before
    folder.create()


def test_a_folder_without_the_right_to_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    assert refusal(ModelFolder(tmp_path / "new" / "model").check_writable) == (
        f"{tmp_path}/new/model: cannot be written (Permission denied).  "
        "Choose another folder with `output`."
    )


def test_metrics_come_back_as_they_were_appended(tmp_path):
    folder = ModelFolder(tmp_path)
    assert folder.read_metrics() == []
    folder.append_metrics({"step": 1, "loss": 0.5})
    folder.append_metrics({"step": 2, "text": "ä\nb"})
    assert folder.read_metrics() == [{"step": 1, "loss": 0.5}, {"step": 2, "text": "ä\nb"}]
    folder.write_metrics([{"step": 1}])
    folder.append_metrics({"step": 3})
    assert folder.read_metrics() == [{"step": 1}, {"step": 3}]


def test_the_validation_loss_of_a_run_rose_where_an_earlier_one_was_lower(tmp_path):
    folder = ModelFolder(tmp_path)
    assert not folder.loss_rose
    for loss, has_risen in ((2.0, False), (1.0, False), (1.005, False), (None, False), (1.5, True)):
        folder.append_metrics({"event": "evaluated", "step": 1, "measures": {"loss": loss}})
        assert folder.loss_rose == has_risen
    folder.append_metrics({"event": "finished", "step": 1, "measures": {}})
    assert folder.loss_rose


@pytest.mark.parametrize(("last", "has_risen"), [(-2.0, False), (-1.99, False), (-1.9, True)])
def test_a_validation_loss_below_zero_rises_by_its_size(tmp_path, last, has_risen):
    folder = ModelFolder(tmp_path)
    for loss in (-2.0, last):
        folder.append_metrics({"event": "evaluated", "step": 1, "measures": {"loss": loss}})
    assert folder.loss_rose == has_risen


def test_a_damaged_record_of_a_run_says_of_no_loss_that_it_rose(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("[1]\n")
    assert not ModelFolder(tmp_path).loss_rose


def test_a_line_of_metrics_that_was_cut_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    folder = ModelFolder(tmp_path)
    assert folder.read_metrics() == [{"step": 1}]
    folder.append_metrics({"step": 2})
    assert folder.read_metrics() == [{"step": 1}, {"step": 2}]


def test_damaged_metrics_are_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("step 1\n")
    with pytest.raises(WeightsError, match=r"metrics\.jsonl: a line is not a JSON object"):
        ModelFolder(tmp_path).read_metrics()


def test_a_path_of_windows_is_written_as_under_wsl():
    with pytest.raises(WeightsError) as caught:
        ModelFolder("C:\\models\\ende").require_model()
    assert str(caught.value) == (
        r"C:\models\ende: no such folder.  A path of Windows?  Under WSL it is /mnt/c/models/ende"
    )


def test_a_model_folder_of_nearly_the_same_name_is_proposed(tmp_path):
    (tmp_path / "reviews").mkdir()
    (tmp_path / "review-texts").mkdir()
    (tmp_path / "reviews" / "config.toml").touch()
    path = tmp_path / "review"
    with pytest.raises(WeightsError) as caught:
        ModelFolder(path).require_model()
    assert str(caught.value) == f"{path}: no such folder.  Did you mean {tmp_path / 'reviews'}?"
    with pytest.raises(WeightsError, match=r"no such folder\.$"):
        ModelFolder(tmp_path / "ende").require_model()
