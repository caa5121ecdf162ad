"""A process of a run that is stopped or lost is named once, and ends the run on all ranks."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch.distributed as dist

from regard.training import heartbeat
from regard.training.heartbeat import LOST, Failure, Process, Watch, present_call, read_status


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr(heartbeat, "_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(heartbeat, "_SPEAKING_SECONDS", 0.2)


class Run:
    """The watches of several processes over one store, with a clock of their own."""

    def __init__(self, processes, seconds=20.0):
        self.now, self.said, self.ended = 0.0, [], {}
        store = dist.HashStore()
        self.watches = [
            Watch(
                store,
                rank,
                processes,
                seconds=seconds,
                end=lambda code, rank=rank: self.ended.setdefault(rank, code),
                say=self.said.append,
                clock=lambda: self.now,
            )
            for rank in range(len(processes))
        ]
        for watch in self.watches:
            watch.beat()

    def pass_seconds(self, seconds, ranks):
        """Let some ranks give heartbeats, second by second."""
        for _ in range(seconds):
            self.now += 1.0
            for rank in ranks:
                if rank not in self.ended:
                    self.watches[rank].poll()


def elsewhere(host):
    return Process(host=host, machine=host, pid=7)


def child(code):
    """Start a Python program; return it and what its neighbors know of it."""
    program = subprocess.Popen([sys.executable, "-S", "-c", code])
    machine = Process.present().machine
    started = read_status(program.pid).started
    return program, Process(host="here", machine=machine, pid=program.pid, started=started)


def test_processes_that_give_heartbeats_are_left_alone():
    run = Run([elsewhere("a"), elsewhere("b")])
    run.pass_seconds(100, [0, 1])
    assert (run.said, run.ended) == ([], {})


@pytest.mark.slow
def test_a_silent_process_of_another_machine_is_named_within_30_seconds():
    run = Run([elsewhere("a"), elsewhere("b"), elsewhere("c")])
    run.pass_seconds(5, [0, 1, 2])
    run.pass_seconds(20, [0, 2])
    assert run.ended == {}
    run.pass_seconds(9, [0, 2])
    assert run.ended == {0: LOST, 2: LOST}
    assert run.said == ["rank 1 (host b, process 7) has not responded for 24 s."]


def test_where_the_store_does_not_answer_every_process_ends_by_itself():
    run = Run([elsewhere("a"), elsewhere("b")])
    watch = run.watches[1]
    watch._lock.acquire()  # a request that gets no answer
    for _ in range(23):
        run.now += 1.0
        watch.guard()
    assert run.ended == {}
    run.now += 1.0
    watch.guard()
    assert run.ended == {1: LOST}
    assert run.said == ["host a, where the processes meet, does not answer."]


def test_a_stopped_process_that_runs_the_store_is_named_and_killed():
    program, process = child("import time; time.sleep(60)")
    os.kill(program.pid, signal.SIGSTOP)
    while read_status(program.pid).state != "T":
        time.sleep(0.01)
    run = Run([process, Process.present()])
    watch = run.watches[1]
    watch._lock.acquire()
    for _ in range(24):
        run.now += 1.0
        watch.guard()
    assert program.wait(10) == -signal.SIGKILL
    assert run.said == [f"rank 0 (host here, process {program.pid}) is stopped (SIGSTOP)."]
    assert run.ended == {1: LOST}


def test_when_the_first_process_is_silent_another_one_speaks():
    run = Run([elsewhere("a"), elsewhere("b"), elsewhere("c")])
    run.watches[1].advice_once_resumable = "Continue: regard train -o ende --resume"
    run.watches[1].note_resumable()
    run.pass_seconds(30, [1, 2])
    assert run.ended == {1: LOST, 2: LOST}
    assert run.said == [
        "rank 0 (host a, process 7) has not responded for 24 s.  "
        "Continue: regard train -o ende --resume"
    ]


def test_a_stopped_process_of_the_same_machine_is_named_and_killed():
    program, process = child("import time; time.sleep(60)")
    os.kill(program.pid, signal.SIGSTOP)
    while read_status(program.pid).state != "T":
        time.sleep(0.01)
    run = Run([Process.present(), process])
    run.pass_seconds(25, [0])
    assert program.wait(10) == -signal.SIGKILL
    assert run.said == [f"rank 1 (host here, process {program.pid}) is stopped (SIGSTOP)."]
    assert run.ended == {0: LOST}


@pytest.mark.slow
def test_a_process_that_computes_in_one_long_operation_is_left_alone():
    program, process = child("while True: pass")
    run = Run([Process.present(), process])
    for _ in range(4):
        run.pass_seconds(10, [0])
        ticks = read_status(program.pid).ticks
        while read_status(program.pid).ticks < ticks + 10:
            time.sleep(0.02)
    program.kill()
    program.wait()
    assert (run.said, run.ended) == ([], {})


def test_a_process_that_has_ended_without_a_word_is_named():
    program, process = child("pass")
    program.wait()
    run = Run([Process.present(), process])
    assert run.watches[0].find_ended() == 1
    failure = run.watches[0].leave_lost()
    message = f"rank 1 (host here, process {program.pid}) has ended."
    assert (failure.code, failure.message) == (LOST, message)
    assert run.said == [message]


def test_a_process_that_left_after_its_work_is_not_missed():
    run = Run([elsewhere("a"), elsewhere("b")])
    run.watches[1].close()
    run.pass_seconds(100, [0])
    assert (run.said, run.ended) == ([], {})
    assert run.watches[0].find_ended() is None
    run.watches[0].wait_for_others(1.0)


def test_a_process_that_was_itself_stopped_blames_no_other():
    run = Run([elsewhere("a"), elsewhere("b")])
    run.pass_seconds(5, [0, 1])
    run.now += 1000.0  # the machine slept
    run.watches[0].poll()
    run.pass_seconds(3, [0, 1])
    assert (run.said, run.ended) == ([], {})


def test_the_first_failure_ends_all_ranks_with_its_code_and_is_said_once():
    run = Run([elsewhere("a"), elsewhere("b"), elsewhere("c")])
    first = Failure(code=3, message="rank 1 (host b): pairs.tsv: no such file.")
    later = Failure(code=5, message="another")
    ends = []
    thread = threading.Thread(target=lambda: ends.append(run.watches[1].leave(first).code))
    thread.start()
    while not run.watches[0]._store.check(["failure"]):
        time.sleep(0.01)
    ends.append(run.watches[0].leave(later).code)
    thread.join()
    run.pass_seconds(1, [2])  # its main thread waits for the others
    assert (ends, run.ended) == ([3, 3], {2: 3})
    assert run.said == [first.message]


def test_an_end_that_has_been_reported_is_not_said_again():
    run = Run([elsewhere("a"), elsewhere("b")])
    assert run.watches[0].leave(Failure(code=130, message="")).code == 130
    run.pass_seconds(1, [1])
    assert (run.said, run.ended) == ([], {1: 130})


def test_the_process_that_runs_the_store_waits_for_each_other_one_once(monkeypatch):
    monkeypatch.setattr(heartbeat, "_SPEAKING_SECONDS", 30.0)
    run = Run([elsewhere("a"), elsewhere("b"), elsewhere("c")])
    run.watches[0]._runs_store = True
    failure = Failure(code=143, message="terminated.")
    server = threading.Thread(target=run.watches[0].leave, args=(failure,))
    server.start()
    while not run.said:
        time.sleep(0.01)
    run.pass_seconds(1, [1])  # its own thread hears of the failure,
    assert run.watches[1].leave(Failure(code=LOST, message="lost")) == failure  # then its main one
    server.join(0.3)
    assert server.is_alive()
    run.pass_seconds(1, [2])
    server.join()
    assert (run.said, run.ended) == (["terminated."], {1: 143, 2: 143})


def test_a_failure_that_a_process_has_heard_of_is_its_own_after_the_store_has_ended(monkeypatch):
    run = Run([elsewhere("a"), elsewhere("b")])
    failure = Failure(code=143, message="terminated.")
    assert run.watches[0].leave(failure) == failure
    run.pass_seconds(1, [1])

    def refuse(*_):
        raise dist.DistNetworkError("Broken pipe")

    monkeypatch.setattr(run.watches[1], "_ask", refuse)
    assert run.watches[1].leave_lost() == failure


def test_where_the_store_ended_with_its_process_one_of_the_others_of_a_machine_speaks(monkeypatch):
    program, process = child("")
    program.wait()
    run = Run([process, Process.present(), Process.present(), elsewhere("b")])

    def refuse(*_):
        raise dist.DistNetworkError("Broken pipe")

    for rank in (2, 1, 3):
        monkeypatch.setattr(run.watches[rank], "_ask", refuse)
        message = f"rank 0 has ended, rank {rank} says"
        run.watches[rank].leave(Failure(code=LOST, message=message, lost_rank=0))
    assert run.said == ["rank 0 has ended, rank 1 says", "rank 0 has ended, rank 3 says"]


def blocked_in_read(look):
    """Call a function in another thread while the main thread reads from an empty pipe."""
    reader, writer = os.pipe()

    def end_soon():
        time.sleep(0.1)
        try:
            look()
        finally:
            os.write(writer, b"x")

    thread = threading.Thread(target=end_soon)
    thread.start()
    os.read(reader, 1)
    thread.join()
    os.close(reader)
    os.close(writer)


@pytest.mark.slow
def test_the_system_call_in_which_the_main_thread_waits_is_known():
    calls = [present_call()]
    blocked_in_read(lambda: calls.append(present_call()))
    assert calls[0] is None
    assert "read" in calls[1]
    lock = threading.Lock()
    lock.acquire()
    threading.Timer(0.1, lambda: (calls.append(present_call()), lock.release())).start()
    lock.acquire()  # as a collective operation waits for its threads
    assert calls[2] is None


@pytest.mark.slow
def test_a_process_that_waits_for_the_system_is_named_first_and_ended_much_later():
    run = Run([Process.present(), elsewhere("b")])
    blocked_in_read(lambda: run.pass_seconds(30, [0, 1]))
    names = [watch.name(rank) for rank, watch in enumerate(run.watches)]
    said = sorted(re.sub(r"\w*pipe_read", "pipe_read", text) for text in run.said)
    what = "has waited for the system for 21 s (pipe_read); the others wait for it."
    assert said == [f"note: {name} {what}" for name in names]  # here one process is both
    assert run.ended == {}
    blocked_in_read(lambda: run.pass_seconds(220, [0, 1]))
    assert run.said[-1].startswith(f"{names[0]} has waited for the system for 201 s (")
    assert run.ended == {0: LOST, 1: LOST}
