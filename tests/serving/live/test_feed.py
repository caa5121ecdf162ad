"""The feed of a run: what each reader is sent, and when it ends."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from tests.serving.live.run_events import RUN, evaluated, progress

from regard.serving.live import feed as feed_module
from regard.serving.live.feed import EventFeed


def run(coroutine):
    """Return the result of a coroutine, from a thread: that of a test may have a loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def parse(message: bytes):
    """Return name and data of a server-sent event."""
    lines = dict(line.split(": ", 1) for line in message.decode().strip().splitlines())
    return lines.get("event"), json.loads(lines["data"])


def read_all(feed: EventFeed, *additions):
    """Return what a reader is sent while events are added, until the feed is closed."""

    async def read():
        feed.open()
        reader = feed.read()
        messages = [await anext(reader)]
        for fields in additions:
            feed.add(fields)
        feed.close()
        return messages + [message async for message in reader]

    return [parse(message) for message in run(read())]


def test_a_reader_is_sent_the_state_and_then_each_event():
    feed = EventFeed(RUN)
    feed.add(progress(1))
    (name, state), *events = read_all(feed, progress(2), progress(3))
    assert name == "state"
    assert state["run"] == RUN
    assert [point["step"] for point in state["progress"]] == [1]
    assert events == [("progress", progress(2)), ("progress", progress(3))]


def test_figures_by_layer_are_not_sent():
    sent = read_all(EventFeed(RUN), evaluated(5))
    assert sent[1][1] == {k: value for k, value in evaluated(5).items() if k != "stability"}


def test_a_reader_that_fell_far_behind_is_sent_the_state_again():
    feed = EventFeed(RUN)
    sent = read_all(feed, *map(progress, range(1, 400)))
    assert [name for name, _ in sent] == ["state", "state"]
    assert len(sent[-1][1]["progress"]) == 399


def test_a_reader_is_sent_the_state_again_when_earlier_points_have_changed():
    feed = EventFeed(RUN)
    feed.add(progress(9))
    sent = read_all(feed, progress(5), progress(6))
    assert [name for name, _ in sent] == ["state", "state"]
    assert [point["step"] for point in sent[-1][1]["progress"]] == [5, 6]


def test_a_reader_hears_a_beat_where_there_is_no_event(monkeypatch):
    monkeypatch.setattr(feed_module, "_BEAT_SECONDS", 0.01)

    async def read():
        feed = EventFeed(RUN)
        feed.open()
        reader = feed.read()
        return [await anext(reader) for _ in range(2)]

    assert [parse(message)[0] for message in run(read())] == ["state", "beat"]


def test_an_event_after_the_end_of_the_loop_is_no_error():
    feed = EventFeed(RUN)
    read_all(feed)
    feed.add(progress(1))
    assert json.loads(feed.state())["progress"][0]["step"] == 1
