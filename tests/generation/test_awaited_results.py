"""Results that a caller waits for, or no longer."""

from concurrent.futures import Future

import pytest

from regard.generation.awaited_results import await_results, deliver, deliver_error


def test_results_come_in_the_order_of_the_futures():
    futures = [Future(), Future()]
    for number, future in enumerate(futures):
        deliver(future, number)
    assert await_results(futures, lambda: None) == [0, 1]


def test_an_error_cancels_what_is_not_there():
    futures = [Future(), Future()]
    deliver_error(futures[1], ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        await_results(futures)
    assert futures[0].cancelled()


def test_a_caller_who_leaves_cancels_what_is_not_there():
    futures = [Future(), Future()]
    deliver(futures[0], 1)

    def leave():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        await_results(futures, leave)
    assert [future.cancelled() for future in futures] == [False, True]
    deliver(futures[1], 2)  # which nobody hears of
    deliver_error(futures[1], ValueError())
    assert futures[1].cancelled()
