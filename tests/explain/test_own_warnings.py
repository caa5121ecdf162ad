"""Warnings are recorded of the thread that asks for them alone."""

from __future__ import annotations

import warnings
from threading import Thread

import pytest

from regard.explain.own_warnings import record_own_warnings


def test_what_another_thread_warns_of_is_not_recorded():
    other = Thread(target=warnings.warn, args=("a text of somebody else",))
    with record_own_warnings() as messages:
        warnings.warn("first", stacklevel=1)
        other.start()
        other.join()
        warnings.warn("first", stacklevel=1)
    assert messages == ["first", "first"]


def test_after_it_warnings_are_as_before():
    with record_own_warnings() as messages:
        pass
    with pytest.warns(UserWarning, match="later"):
        warnings.warn("later", stacklevel=1)
    assert messages == []
