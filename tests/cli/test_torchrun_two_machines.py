"""Two network namespaces with addresses and disks of their own act as two machines."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.cli.rank_process import Ranks
from tests.conftest import TINY

from regard.data.readers.source import open_source
from regard.hub.model_folder import ModelFolder
from regard.setup.config import RunConfig

SETTINGS = [word for setting in (*TINY, "training.epochs=1") for word in ("--set", setting)]
ADDRESSES = ("10.213.77.1", "10.213.77.2")


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def machines():
    """Names of two machines with a cable between them."""
    names = [f"regard-{os.getpid()}-{letter}" for letter in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable-a", "netns", names[0], "type", "veth", "peer", "name", "cable-b",
           "netns", names[1])  # fmt: skip
        for name, address, end in zip(names, ADDRESSES, ("cable-a", "cable-b"), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def start(tmp_path, machines):
    """Start a command on both machines, each in a folder that the other does not see."""
    folders = [tmp_path / letter for letter in "ab"]
    for folder in folders:
        folder.mkdir()

    def start_on_both(*words, size=2):
        return Ranks(
            tmp_path,
            *words,
            size=size,
            folders=[folders[0], *[folders[1]] * (size - 1)],
            machines=[machines[0], *[machines[1]] * (size - 1)],
            variables={"MASTER_ADDR": ADDRESSES[0], "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"},
        )

    return start_on_both, folders


@pytest.mark.slow
def test_a_file_that_only_the_first_machine_has_is_named_and_sent(start, machines, pairs_file):
    start_on_both, (first, second) = start
    (first / "pairs.tsv").write_bytes(pairs_file.read_bytes())
    words = ("train", "pairs.tsv", "-o", "model", *SETTINGS)
    refused = start_on_both(*words)
    assert refused.wait() == [3, 3]
    assert refused.errors() == [
        f"regard: rank 1 (host {machines[1]}): pairs.tsv: no such file.  Rank 0 has it.  Copy it "
        "there, or have rank 0 send it: --data-from-rank-0"
    ]
    assert start_on_both(*words, "--data-from-rank-0").wait() == [0, 0]
    assert ModelFolder(first / "model").is_finished
    assert list(second.iterdir()) == []


@pytest.mark.slow
def test_a_folder_that_only_the_first_machine_has_is_sent(start):
    image = pytest.importorskip("PIL.Image")
    start_on_both, (first, second) = start
    for number in range(40):
        path = first / "pictures" / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("L", (8, 8), 40 * (number % 2) + number).save(path)
    settings = ("preset=tiny", "model.dim=16", "model.hidden_dim=32", "model.num_layers=1")
    words = [word for setting in (*settings, "training.epochs=1") for word in ("--set", setting)]
    sha256 = open_source(first / "pictures").sha256
    kept = Path(tempfile.gettempdir()) / f"regard-{os.getuid()}-{sha256[:24]}"
    try:
        ranks = start_on_both("train", "pictures", "-o", "m", *words, "--data-from-rank-0")
        assert ranks.wait() == [0, 0], ranks.errors()
        assert open_source(kept).sha256 == sha256
    finally:
        shutil.rmtree(kept, ignore_errors=True)
    model = ModelFolder(first / "m")
    assert model.is_finished
    assert model.read_config(RunConfig).data.path == "pictures"
    assert list(second.iterdir()) == []


@pytest.mark.slow
def test_a_run_is_resumed_on_another_number_of_machines_without_a_shared_disk(start, pairs_file):
    start_on_both, (first, second) = start
    for folder in (first, second):
        (folder / "pairs.tsv").write_bytes(pairs_file.read_bytes())
    words = ("train", "pairs.tsv", "-o", "model", *SETTINGS, "--set", "training.epochs=1000")
    ranks = start_on_both(*words)
    ranks.wait_until(lambda: "best" in ranks.output(0))
    for rank in range(2):
        ranks.kill(rank, signal.SIGINT)
    assert ranks.wait() == [130, 130]
    resumed = start_on_both("train", "-o", "model", "--resume", size=3)
    resumed.wait_until(lambda: "Resumed from step" in resumed.output(0))
    resumed.kill(1)
    assert resumed.wait() == [5, -signal.SIGKILL, 5]
    (line,) = resumed.errors()
    assert "rank 1 (host " in line
    assert " has ended.  Continue: regard train -o model --resume" in line
    assert [path.name for path in second.iterdir()] == ["pairs.tsv"]
