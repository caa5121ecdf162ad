"""Inputs of several requests are computed together, and each request has its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from tests.serving.running_service import wait_until

from regard.serving.batched_calls import BatchedCalls


class Doubling:
    """Doubles numbers, once it may; refuses negative ones."""

    def __init__(self):
        self.batches, self.has_begun, self.may_go_on = [], Event(), Event()

    def __call__(self, values):
        self.has_begun.set()
        self.may_go_on.wait()
        self.batches.append(list(values))
        if min(values) < 0:
            raise ValueError("negative")
        return [2 * value for value in values]


def calls_at_a_time(requests, most=100):
    """Return the outcomes of requests that wait together, and the batches."""
    compute = Doubling()
    batched = BatchedCalls(compute, abs, most)
    with ThreadPoolExecutor(len(requests)) as pool:
        waiting = []
        for number, request in enumerate(requests):
            waiting.append(pool.submit(batched, request))
            compute.has_begun.wait()
            expected = sum(map(len, requests[1 : number + 1]))
            wait_until(lambda: len(batched._waiting) >= expected)  # noqa: B023 - at once
        compute.may_go_on.set()
        outcomes = [each.exception() or each.result() for each in waiting]
    batched.close()
    return outcomes, compute.batches


def test_requests_that_wait_are_computed_together():
    outcomes, batches = calls_at_a_time([[1], [2, 3], [4]])
    assert outcomes == [[2], [4, 6], [8]]
    assert batches == [[1], [2, 4, 3]]


def test_a_large_request_leaves_others_their_turn():
    outcomes, batches = calls_at_a_time([[1], [50] * 4, [3]])
    assert outcomes == [[2], [100] * 4, [6]]
    assert batches == [[1], [50, 3], [50, 50], [50]]


def test_one_input_larger_than_a_batch_is_computed_alone():
    outcomes, batches = calls_at_a_time([[1], [500, 3]])
    assert outcomes == [[2], [1000, 6]]
    assert batches == [[1], [500], [3]]


def test_an_input_that_fails_takes_no_other_request_with_it():
    outcomes, _ = calls_at_a_time([[1], [5], [-1], [6]])
    assert outcomes[:2] == [[2], [10]]
    assert isinstance(outcomes[2], ValueError)
    assert outcomes[3] == [12]


def test_closed_calls_are_refused():
    batched = BatchedCalls(lambda values: values, abs, 10)
    assert batched([]) == []
    batched.close()
    assert not batched.is_alive
    with pytest.raises(RuntimeError, match="closed"):
        batched([1])


def test_inputs_of_a_request_that_nobody_waits_for_are_in_no_batch():
    compute = Doubling()
    batched = BatchedCalls(compute, abs)

    def leave():
        raise InterruptedError

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batched, [1])
        compute.has_begun.wait()
        with pytest.raises(InterruptedError):
            batched([2, 3], leave)
        last = pool.submit(batched, [4])
        wait_until(lambda: len(batched._waiting) == 3)
        compute.may_go_on.set()
        assert (first.result(), last.result()) == ([2], [8])
    batched.close()
    assert compute.batches == [[1], [4]]
