"""Commands under torchrun: one voice, one exit code, and an end where a process is lost."""

import signal
import socket
import sys
import time
from contextlib import nullcontext, suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from tests.cli.kill_ranks import run_with_kills
from tests.cli.rank_process import Ranks
from tests.conftest import TINY
from tests.processes import free_port

from regard.__main__ import main
from regard.cli import torchrun
from regard.cli.failures import describe_failure
from regard.hub.model_folder import ModelFolder
from regard.runs import run as runs
from regard.runs import session
from regard.training import launch
from regard.training.checkpoint import checkpoint_path
from regard.training.loop import Trainer
from regard.training.signals import Terminated, raising_once
from regard.training.torchrun_environment import TorchrunEnvironment

SETTINGS = [word for setting in TINY for word in ("--set", setting)]
LONG = [*SETTINGS, "--set", "training.epochs=1000", "--set", "training.checkpoint_seconds=0"]
OTHER = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.fixture
def as_other(monkeypatch):
    """This process is rank 1, and torchrun ends it at once when the first one has ended."""
    for name, value in OTHER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torchrun, "_SECONDS_TO_WAIT", 0.0)
    monkeypatch.setattr("sys.stdout", __import__("sys").stdout)


@pytest.mark.parametrize(
    ("words", "is_shared"),
    [
        (["train", "-", "-o", "ende"], True),
        (["evaluate", "ende", "test.tsv"], True),
        (["evaluate", "ende", "-"], False),
        (["translate", "ende", "test.tsv"], False),
        (["--help"], False),
        ([], False),
    ],
)
def test_all_ranks_run_the_verbs_that_declare_it_where_each_can_read_the_input(words, is_shared):
    assert torchrun.runs_on_all_ranks(words) == is_shared


@pytest.mark.parametrize("words", [["check", "nothing.tsv"], ["--help"], [], ["translate"]])
def test_of_a_verb_that_does_not_train_the_other_processes_leave_silently(
    words, as_other, capfd, monkeypatch
):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert main(words) == 0
    assert capfd.readouterr() == ("", "")


def test_a_rank_that_torchrun_has_not_set_is_noted_where_it_leaves(as_other, capfd):
    assert main(["check", "nothing.tsv"]) == 0
    assert capfd.readouterr() == (
        "",
        "regard: note: RANK=1 and WORLD_SIZE=2 are set in the environment: rank 0 alone does "
        "this.  Unset them to do it here.\n",
    )


def test_a_process_says_that_it_waits_for_others_that_do_not_come(monkeypatch):
    notes = []
    monkeypatch.setattr(launch, "_NOTED_SECONDS", 0.0)
    monkeypatch.setattr(launch, "write_message", notes.append)
    for local_rank, is_of_torchrun in ((0, False), (0, True), (1, True)):
        place = TorchrunEnvironment(local_rank, 2, local_rank, is_of_torchrun=is_of_torchrun)
        with launch._noting_the_wait(place):
            time.sleep(0.05)
    text = "note: rank 0 waits at localhost:29500 for the other processes (WORLD_SIZE=2)."
    alone = "  For a run on this process alone, unset RANK and WORLD_SIZE."
    assert notes == [text + alone, text]


def test_an_interrupt_while_pytorch_is_imported_imports_nothing_more(monkeypatch):
    monkeypatch.setitem(sys.modules, "regard.training.signals", None)  # an import raises
    assert describe_failure(KeyboardInterrupt()) == (130, "interrupted")


def test_a_port_that_is_in_use_is_named(monkeypatch, capsys, tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in (OTHER | {"RANK": "0", "MASTER_PORT": str(port)}).items():
            monkeypatch.setenv(name, value)
        assert main(["train", "pairs.tsv", "-o", str(tmp_path / "m")]) == 5
    assert capsys.readouterr().err == (
        f"regard: port {port} is in use on {socket.gethostname()}, where the processes are to "
        "meet.  Set MASTER_PORT to another one, on all of them.\n"
    )


@pytest.mark.parametrize("words", [["-"], ["rows.tsv", "--compare", "-"]])
def test_an_evaluation_that_names_standard_input_is_of_the_first_process_alone(
    words, as_other, monkeypatch, capfd, tmp_path
):
    command = ["evaluate", str(tmp_path / "nothing"), *words]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert main(command) == 0
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(launch, "connect", lambda _: pytest.fail("it waits for the others"))
    assert main(command) == 4
    assert f"{tmp_path}/nothing: no such folder" in capfd.readouterr().err


def test_a_process_that_ends_while_the_others_connect_is_said(monkeypatch, capsys, tmp_path):
    def begin(*_):
        raise RuntimeError("[/gloo/pair.cc:553] Connection closed by peer [10.0.0.2]:9. Check.")

    for name, value in (OTHER | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "_meet", lambda _: "name")
    monkeypatch.setattr(launch, "_begin_watch", begin)
    assert main(["train", "pairs.tsv", "-o", str(tmp_path / "m")]) == 5
    assert capsys.readouterr().err == (
        f"regard: rank 0 (host {socket.gethostname()}): the connection to another process has "
        "ended at the start (Connection closed by peer [10.0.0.2]:9).\n"
    )


def test_a_process_that_is_ready_ends_with_the_others_whatever_signal_comes_to_it(monkeypatch):
    events = []

    def barrier():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        events.append("all are ready")

    watch = SimpleNamespace(close=lambda: events.append("left"))
    world = SimpleNamespace(barrier=barrier)
    monkeypatch.setattr(launch.dist, "destroy_process_group", lambda: None)
    with raising_once():
        launched = launch.Launch(launch.World(), watch, 0, TorchrunEnvironment(1, 2))
        launched.world = world
        launched.finish()
    assert events == ["all are ready", "left"]


def test_a_lost_process_is_said_to_leave_a_run_to_resume_once_its_settings_are_written(
    monkeypatch, tmp_path
):
    events = []
    monkeypatch.setattr(session, "require_disk_space", lambda *_: None)
    monkeypatch.setattr(session, "reproducible", lambda *_: nullcontext())
    watch = SimpleNamespace(note_resumable=lambda: events.append("can be resumed"))
    run = SimpleNamespace(
        config=SimpleNamespace(training=None),
        setup=SimpleNamespace(device=None),
        plan=lambda: (None, None),
        folder=ModelFolder(tmp_path),
        world=launch.World(watch=watch),
        _write_start=lambda: events.append("settings are written"),
        _begin=lambda *_: events.append("first checkpoint"),
    )
    session.RunSession.start(run, None)
    assert events == ["settings are written", "can be resumed", "first checkpoint"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_that_is_stopped_ends_once_the_first_process_has_drawn_its_curves(monkeypatch, rank):
    events = []
    monkeypatch.setattr(session, "write_curves", lambda *_: "curves")
    world = SimpleNamespace(is_first=rank == 0, barrier=lambda: events.append("all are here"))
    task = SimpleNamespace(loss_unit="nats per token")
    run = SimpleNamespace(world=world, folder=None, task=task, _report=events.append)
    session.RunSession._show_curves(run)
    assert events == (["curves", "all are here"] if rank == 0 else ["all are here"])


def test_after_an_error_another_process_waits_for_the_first_one_until_interrupted(
    monkeypatch,
):
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(time, "sleep", sleep)
    try:
        assert (torchrun.end_after_first(130), len(waits)) == (130, 0)
        assert (torchrun.end_after_first(3), len(waits)) == (3, 1)
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


@pytest.mark.slow
def test_a_run_whose_other_processes_do_not_come_ends(monkeypatch, capsys, tmp_path):
    port = free_port()
    for name, value in (OTHER | {"RANK": "0", "MASTER_PORT": str(port)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "_START", timedelta(seconds=0.2))
    assert main(["train", "pairs.tsv", "-o", str(tmp_path / "m")]) == 5
    message = capsys.readouterr().err
    assert message.startswith("regard: rank 0 (host ")
    assert f"cannot reach the other processes by localhost:{port} (" in message


INTERRUPTIONS = {
    "while its files are written": (ModelFolder, "write_tokenizer", KeyboardInterrupt),
    "before the first step": (Trainer, "run", KeyboardInterrupt),
    "in the last evaluation": (session, "shared_predictor", KeyboardInterrupt),
    "by a scheduler": (Trainer, "run", Terminated),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "when",
    [
        "before the first step",
        "while its files are written",
        "in the last evaluation",
        "by a scheduler",
    ],
)
def test_a_run_that_is_interrupted_outside_its_steps_says_how_to_continue(
    when, tmp_path, pairs_file, monkeypatch, capsys
):
    def interrupt(*_):
        raise error

    place, name, error = INTERRUPTIONS[when]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, interrupt)
        code = main(["train", str(pairs_file), "-o", str(tmp_path / "m"), *SETTINGS])
    what = {130: "interrupted", 143: "terminated"}[code]
    command = f"regard train -o {tmp_path / 'm'} --resume"
    assert capsys.readouterr().err == f"regard: {what}.  Continue: {command}\n"
    assert code == (143 if error is Terminated else 130)
    assert main(command.split()[1:]) == 0
    assert "Done " in capsys.readouterr().out


def test_a_run_that_is_interrupted_before_it_has_settings_cannot_be_continued(
    tmp_path, pairs_file, monkeypatch, capsys
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelFolder, "write_config", interrupt)
    assert main(["train", str(pairs_file), "-o", str(tmp_path / "m"), *SETTINGS]) == 130
    assert capsys.readouterr().err == "regard: interrupted\n"


@pytest.mark.parametrize("words", [["train"], ["train", "--bad"], ["train", "a.tsv"], ["evaluate"]])
def test_a_misuse_is_said_by_the_first_process_alone(words, as_other, capfd, monkeypatch):
    assert main(words) == 2
    assert capfd.readouterr() == ("", "")
    for name in OTHER:
        monkeypatch.delenv(name)
    assert main(words) == 2
    assert capfd.readouterr().err.startswith("regard: ")


def test_a_rank_that_is_no_number_is_a_misuse(monkeypatch, capsys):
    for name, value in (OTHER | {"RANK": "one"}).items():
        monkeypatch.setenv(name, value)
    assert main(["check", "a.tsv"]) == 2
    assert "regard: RANK=one: a whole number was expected" in capsys.readouterr().err


def test_a_start_after_an_error_that_lasts_ends_without_a_word(monkeypatch, capsys, tmp_path):
    files = [tmp_path / f"attempt_{attempt}" / "0" / "error.json" for attempt in range(3)]

    def start(attempt):
        files[attempt].parent.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(attempt))
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(files[attempt]))
        return main(["check", "nothing.tsv"]), capsys.readouterr().err

    for name, value in (OTHER | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    code, message = start(0)
    assert (code, message.startswith("regard: nothing.tsv: no such file")) == (3, True)
    assert [start(1), start(2)] == [(3, ""), (3, "")]
    torchrun.note_code(5)  # a lost process: the next start may do better
    files[1].with_name(torchrun._CODE_FILE).unlink()
    assert start(2)[1].startswith("regard: nothing.tsv: no such file")


@pytest.mark.parametrize(("count", "is_noted"), [(0, False), (1, False), (4, True)])
def test_a_machine_with_several_gpus_is_told_the_command(count, is_noted, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(runs, "train", lambda *_, **__: None)
    words = ["train", "my pairs.tsv", "-o", "ende", "--minutes", "3.5", "--set", "model.dim=64"]
    assert main(words) == 0
    command = (
        'torchrun --nproc-per-node 4 -m regard train "my pairs.tsv" -o ende --minutes 3.5 '
        "--set model.dim=64"
    )
    assert (command in capsys.readouterr().out) == is_noted


@pytest.mark.slow
def test_an_error_ends_all_ranks_with_its_code_and_one_message(tmp_path):
    ranks = Ranks(tmp_path, "train", tmp_path / "nothing.tsv", "-o", tmp_path / "m", *SETTINGS)
    assert ranks.wait() == [3, 3]
    assert ranks.errors() == [f"regard: {tmp_path}/nothing.tsv: no such file."]
    assert (ranks.output(0), ranks.output(1)) == ("", "")
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_a_rank_with_another_setting_is_named_by_the_first(tmp_path, pairs_file):
    ranks = Ranks(
        tmp_path,
        *("train", pairs_file, "-o", tmp_path / "m", *SETTINGS),
        own_words={1: ["--seed", "7"]},
    )
    assert ranks.wait() == [2, 2]
    (line,) = ranks.errors()
    assert line.startswith("regard: rank 1 (host ")
    assert "training.seed is 7 there, and not set on rank 0.  Start all processes alike." in line


@pytest.mark.slow
def test_two_processes_train_one_model_and_the_first_alone_writes(tmp_path, pairs_file):
    folder = tmp_path / "m"
    ranks = Ranks(tmp_path, "train", pairs_file, "-o", folder, *SETTINGS)
    assert ranks.wait() == [0, 0]
    assert ranks.errors() == []
    assert ranks.output(0).count("Done    best step") == 1
    assert ranks.output(1) == ""
    assert sum(line["event"] == "finished" for line in ModelFolder(folder).read_metrics()) == 1
    assert not (folder / ".lock").exists()
    again = Ranks(tmp_path, "train", pairs_file, "-o", folder, *SETTINGS)
    assert again.wait() == [2, 2]
    (line,) = again.errors()
    assert line.startswith(f"regard: {folder}: already holds a finished model")


@pytest.mark.slow
def test_a_prediction_is_of_all_processes_and_said_once(tmp_path, pairs_file):
    ranks = Ranks(tmp_path, "train", pairs_file, "--dry-run", *SETTINGS)
    assert ranks.wait() == [0, 0]
    assert ranks.errors() == []
    assert ranks.output(0).count("ddp on 2 processes, 12 shards a batch") == 1
    assert ranks.output(1) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_ranks_leaves_one_message_and_a_checkpoint(
    signum, code, tmp_path, pairs_file
):
    folder = tmp_path / "m"
    ranks = Ranks(tmp_path, "train", pairs_file, "-o", folder, *LONG)
    ranks.wait_until(lambda: "best" in ranks.output(0))
    ranks.kill(1, signum)
    time.sleep(0.05)
    with suppress(ProcessLookupError):  # rank 0 may have ended for the signal of rank 1
        ranks.kill(0, signum)
        ranks.kill(0, signum)  # a scheduler and torchrun may both send it
    assert ranks.wait() == [code, code]
    assert ranks.errors() == []
    assert ranks.output(0).count(f"Continue: regard train -o {folder} --resume") == 1
    assert checkpoint_path(folder).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "signum"), [(1, signal.SIGKILL), (0, signal.SIGSTOP)])
def test_a_rank_that_is_lost_is_named_once_and_another_number_resumes(
    lost, signum, tmp_path, pairs_file
):
    folder = tmp_path / "m"
    words = [*LONG, "--set", "training.heartbeat_seconds=5"]
    ranks = Ranks(tmp_path, "train", pairs_file, "-o", folder, *words)
    ranks.wait_until(lambda: "best" in ranks.output(0))
    ranks.kill(lost, signum)
    start = time.monotonic()
    assert sorted(ranks.wait()) == [-signal.SIGKILL, 5]
    assert time.monotonic() - start < 20.0
    (line,) = ranks.errors()
    what = "has ended" if signum == signal.SIGKILL else "is stopped (SIGSTOP)"
    assert line.startswith(f"regard: rank {lost} (host ")
    assert f"process {ranks.processes[lost].pid}) {what}.  Continue: regard train -o" in line
    resumed = Ranks(tmp_path, "train", "-o", folder, "--resume", size=3)
    resumed.wait_until(lambda: "Resumed from step" in resumed.output(0))
    for rank in range(3):
        resumed.kill(rank, signal.SIGTERM)
    assert set(resumed.wait()) <= {143}


@pytest.mark.slow
def test_a_run_whose_ranks_are_killed_ends_in_the_weights_of_an_undisturbed_one(
    tmp_path, pairs_file
):
    killed = run_with_kills(tmp_path, pairs_file, 1)
    settings = (*TINY, "training.deterministic=true")
    runs.train(pairs_file, tmp_path / "straight", settings=settings)  # one process, no torchrun
    weights = [ModelFolder(tmp_path / name).weights_path for name in (killed, "straight")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
