"""The comparison of the copy mechanism: its measure, and its usage."""

import sys

import pytest

from benchmarks import copy_mechanism


def test_rare_words_are_of_source_and_target_and_in_fewer_than_three_training_rows():
    train = ["the cat the", "the dog", "the apt", "run apt", "apt-get"]
    words = copy_mechanism.rare_words(
        train, ["run the apt-get apt", "x y"], ["starte apt-get apt run the", "z"]
    )
    assert words == [{"run", "apt-get", "apt"}, set()]
    more = copy_mechanism.rare_words([*train, "apt"], ["run apt"], ["run apt"])
    assert more == [{"run"}]


def test_an_unknown_arm_is_a_usage_error(capsys, monkeypatch):
    words = ["copy_mechanism.py", "a", "b", "c", "--epochs", "1", "--arms", "plain,kopy"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stopped:
        copy_mechanism.main()
    assert stopped.value.code == 2
    assert "--arms kopy: not known.  Known: plain, copy, coverage." in capsys.readouterr().err
