"""Processes that do not start alike are named, with what differs."""

import threading
from dataclasses import replace

import msgspec
import pytest
import torch
from torch import nn

from regard.cli.wording import error_text
from regard.data.readers.source import open_source
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import ConfigError, DataError, RegardError, ResourceError, WeightsError
from regard.runs.start_checks import (
    open_shared_sources,
    require_own_gpus,
    require_same_program,
    require_same_vocabulary,
    share_config,
    share_located,
    share_machine,
    share_measurement,
    share_request,
    share_tokenizer,
    share_weights,
)
from regard.setup.config import DataConfig, RunConfig
from regard.setup.estimate import Measurement
from regard.setup.facts import Machine
from regard.setup.request import Request
from regard.training.distribution import World

HOSTS = ("a", "b", "c")


class Exchange:
    """What the ranks of a world in one process exchange: bytes, in turns."""

    def __init__(self, size):
        self.barrier, self.values = threading.Barrier(size, timeout=20), [b""] * size

    def gather(self, rank, value):
        self.values[rank] = msgspec.msgpack.encode(value)
        self.barrier.wait()
        values = [msgspec.msgpack.decode(value) for value in self.values]
        self.barrier.wait()
        return values


class ThreadWorld(World):
    """A rank in a thread."""

    is_shared = True

    def gather(self, value):
        return self.control.gather(self.rank, value)

    def share(self, value):
        return self.control.gather(self.rank, value if self.rank == 0 else None)[0]

    def send(self, tensor):
        values = self.control.gather(self.rank, tensor.tolist())
        with torch.no_grad():
            tensor.copy_(torch.tensor(values[0]))


def on_ranks(compute, size=2):
    """Return what a function of a world returns on each rank, or its error."""
    exchange, results = Exchange(size), [None] * size

    def run(rank):
        try:
            world = ThreadWorld(rank=rank, size=size, control=exchange, hosts=HOSTS[:size])
            results[rank] = compute(world)
        except RegardError as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def refused(compute, kind, size=2):
    """Return the text of the error that every rank raises."""
    errors = on_ranks(compute, size)
    assert [type(error) for error in errors] == [kind] * size, errors
    assert len({error_text(error) for error in errors}) == 1
    return error_text(errors[0])


def test_another_version_is_named():
    def compare(world):
        require_same_program(world, "0.2" if world.rank == 2 else "0.1", {})

    assert refused(compare, ConfigError, size=3) == (
        "rank 2 (host c): the version of regard is 0.2 there, and 0.1 on rank 0.  "
        "Start all processes alike."
    )


def test_an_option_that_only_some_have_is_named():
    def compare(world):
        require_same_program(world, "0.1", {"--resume": world.is_first})

    assert "--resume is not set there, and set on rank 0." in refused(compare, ConfigError)


def test_one_gpu_for_processes_that_have_their_own_is_refused():
    world = World(rank=0, size=3, gradients=object(), hosts=("a", "a", "b"))
    require_own_gpus(world, "cuda")
    require_own_gpus(replace(world, gradients=None), "cuda:1")  # gloo takes what they share
    require_own_gpus(replace(world, hosts=("a", "b", "c")), "cuda:1")
    with pytest.raises(ConfigError) as error:
        require_own_gpus(world, "cuda:1")
    assert str(error.value) == (
        "cuda:1: one GPU for 2 processes of this machine.  Take `device=cuda`: each takes its own."
    )


def test_another_setting_is_named():
    def compute(world):
        settings = ["training.epochs=3"] + ["training.seed=2"] * world.rank
        return share_request(world, lambda file: Request.parse(settings), None, "a.tsv", settings)

    assert "rank 1 (host b): training.seed is 2 there, and not set on rank 0." in refused(
        compute, ConfigError
    )


def test_a_configuration_file_is_read_on_rank_0_alone(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[training]\nepochs = 3\n")

    def compute(world):
        def parse(file):
            assert (file == path) == world.is_first
            return Request.parse(["preset=tiny"], file=file, paths={"path": "a.tsv"})

        return share_request(world, parse, path, "a.tsv", ["preset=tiny"])

    first, second = on_ranks(compute)
    assert first.table["training"]["epochs"] == 3
    assert (second.table, second.settings) == (first.table, first.settings)


@pytest.fixture
def disks(tmp_path, monkeypatch):
    """A folder for each rank, where it finds what others have under the same name."""
    folders = [tmp_path / host for host in HOSTS]
    for folder in folders:
        folder.mkdir()
    from regard.setup import inspect

    place = threading.local()

    def open_here(path, part="train"):
        source = open_source(place.folder / path)
        source.path = str(path)
        return source

    monkeypatch.setattr(inspect, "open_source", open_here)
    return folders, place


def shared(world, disks, **options):
    folders, place = disks
    place.folder = folders[world.rank]
    return open_shared_sources(world, DataConfig(path="a.tsv", test="b.tsv"), **options)


def test_equal_copies_of_the_data_are_taken(disks):
    for folder in disks[0]:
        (folder / "a.tsv").write_text("x\ty\n")
        (folder / "b.tsv").write_text("z\tw\n")
    first, second = on_ranks(lambda world: shared(world, disks))
    assert {name: source.content for name, source in second.items()} == {
        "path": b"x\ty\n",
        "test": b"z\tw\n",
    }
    assert first["path"].sha256 == second["path"].sha256


def test_another_content_is_named_with_its_host_and_file(disks):
    for folder in disks[0]:
        (folder / "a.tsv").write_text("x\ty\n")
        (folder / "b.tsv").write_text(f"z\t{folder.name}\n")
    text = refused(lambda world: shared(world, disks), DataError)
    assert text.startswith("rank 1 (host b): b.tsv: has another content than on rank 0 (sha256 ")
    assert text.endswith("Copy it there, or have rank 0 send it: --data-from-rank-0")


def test_a_file_that_only_rank_0_has_is_named_or_sent(disks):
    folders = disks[0]
    (folders[0] / "a.tsv").write_text("x\ty\n")
    for folder in folders:
        (folder / "b.tsv").write_text("z\tw\n")
    text = refused(lambda world: shared(world, disks), DataError)
    assert text.startswith("rank 1 (host b): ")
    assert "a.tsv: no such file" in text
    assert text.endswith(
        "Rank 0 has it.  Copy it there, or have rank 0 send it: --data-from-rank-0"
    )
    results = on_ranks(lambda world: shared(world, disks, data_from_rank_0=True), size=3)
    for sources in results:
        assert (sources["path"].path, sources["path"].content) == ("a.tsv", b"x\ty\n")
        assert sources["path"].sha256 == results[0]["path"].sha256


def test_a_file_that_no_rank_has_is_an_error_of_none(disks):
    text = refused(lambda world: shared(world, disks), DataError)
    assert "a.tsv: no such file" in text
    assert not text.startswith("rank")


def test_the_machine_of_a_run_is_the_weakest_and_that_is_said():
    texts = []

    def compute(world):
        fast = world.rank != 1
        flops = {"float32": 5.0} | ({"bf16": 9.0} if fast else {})
        report = (lambda event: texts.append(event.text)) if world.is_first else (lambda _: None)
        return share_machine(world, Machine(has_fast_bf16=fast, flops=flops), report)

    machines = on_ranks(compute, size=3)
    assert machines == [Machine(has_fast_bf16=False, flops={"float32": 5.0})] * 3
    assert texts == ["rank 1 (host b) does not compute bf16 fast: all processes take float32."]


def test_a_plan_is_made_from_the_slowest_rank():
    def compute(world):
        measured = Measurement(
            step_seconds=2.0 + 2 * world.rank, evaluation_seconds=1.0, memory_bytes=world.rank
        )
        return share_measurement(world, measured)

    expected = Measurement(step_seconds=4.0, evaluation_seconds=1.0, memory_bytes=1)
    assert on_ranks(compute) == [expected, expected]


def test_the_settings_of_a_run_are_those_of_rank_0():
    def compute(world):
        data = DataConfig(mean=(0.1 + 1e-9 * world.rank,))
        return share_config(world, RunConfig(data=data))

    first, second = on_ranks(compute)
    assert second == first
    assert second.data.mean == (0.1,)


def test_a_path_as_typed_is_right_where_the_present_one_names_no_file(tmp_path):
    there, typed = tmp_path / "moved.tsv", "typed.tsv"

    def compute(world):
        located = DataConfig(path=str(there), test=None)
        return share_located(world, DataConfig(path=typed), lambda: located).path

    assert on_ranks(compute) == [str(there), typed]
    there.write_text("x\ty\n")
    assert on_ranks(compute) == [str(there)] * 2


def test_a_vocabulary_is_trained_once():
    trained = []

    def train():
        trained.append(Tokenizer.train(["ein alter Hund", "ein Haus"], TokenizerConfig()))
        return trained[0]

    first, second = on_ranks(lambda world: share_tokenizer(world, train))
    assert len(trained) == 1
    assert second.to_json() == first.to_json()

    def compare(world):
        other = Tokenizer.train(["a" * (1 + world.rank)] * 3, TokenizerConfig())
        require_same_vocabulary(world, other, "base")

    text = refused(compare, WeightsError)
    assert text.startswith("rank 1 (host b): base: has another vocabulary than on rank 0.")


def test_first_weights_are_those_of_rank_0_and_other_trained_ones_are_refused():
    models = [nn.Linear(2, 3) for _ in range(2)]

    def compute(world):
        share_weights(world, models[world.rank], None)
        return models[world.rank].weight.tolist()

    text = refused(lambda world: share_weights(world, models[world.rank], "base"), WeightsError)
    assert text.startswith("rank 1 (host b): base: has other weights than on rank 0.")
    first, second = on_ranks(compute)
    assert second == first


def test_a_rank_with_too_little_memory_is_named():
    def require(rank):
        if rank == 1:
            raise ResourceError("needs about 31 GB, 22 GB are free.")

    text = refused(lambda world: world.together(lambda: require(world.rank)), ResourceError)
    assert text == "rank 1 (host b): needs about 31 GB, 22 GB are free."
