"""Small data and small runs shared by the tests."""

from __future__ import annotations

import gc
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.browser import browser, watched_window, window  # noqa: F401 - fixtures
from tests.small_runs import keep_memory, leave_out

# A shared machine may be slow for a moment: no time of a single example says anything.
settings.register_profile(
    "regard", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50
)
settings.register_profile("many", settings.get_profile("regard"), max_examples=2_000)
settings.register_profile("quick", settings.get_profile("regard"), max_examples=8)
settings.load_profile("regard")

collect_ignore = ["forked.py"]  # it changes what is defined elsewhere, for good

NOUNS = {"cat": "Katze", "dog": "Hund", "house": "Haus", "tree": "Baum", "river": "Fluss"}
VERBS = {"sees": "sieht", "likes": "mag", "finds": "findet", "paints": "malt"}
COLOURS = {"red": "rot", "old": "alt", "small": "klein", "green": "grün"}


def toy_pairs(count: int, seed: int = 1) -> list[tuple[str, str]]:
    """Make distinct sentence pairs of a tiny language."""
    rng = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        (a, x), (b, y) = rng.choice(list(NOUNS.items())), rng.choice(list(NOUNS.items()))
        (v, w), (c, z) = rng.choice(list(VERBS.items())), rng.choice(list(COLOURS.items()))
        number = rng.randint(1, 40)
        pairs[f"{number} {c} {a} {v} the {b}"] = f"{number} {x} {z} {w} {y}"
    return list(pairs.items())


def write_tsv(path: Path, pairs: list[tuple[str, str]]) -> Path:
    """Write pairs as TSV."""
    path.write_text("".join(f"{s}\t{t}\n" for s, t in pairs), encoding="utf-8")
    return path


TINY = (
    "preset=tiny",
    "model.dim=16",
    "model.hidden_dim=32",
    "model.num_heads=2",
    "model.num_encoder_layers=1",
    "model.num_decoder_layers=1",
    "model.dropout=0.1",
    "tokenizer.vocab_size=400",
    "training.batch_tokens=256",
    "training.epochs=2",
)


def pytest_sessionstart() -> None:
    """Collect no garbage until all tests are imported: what they import stays."""
    gc.disable()
    keep_memory()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path):
    """Look for examples only in files that have some: each has its code searched for them."""
    collectors = yield
    if not collectors or ">>>" in file_path.read_text(encoding="utf-8"):
        return collectors
    return [collector for collector in collectors if type(collector) is pytest.Module]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that start processes, of ranks above all.

    One worker starts the server of `tests.processes`, and the ranks, once; and none ends with them.
    """
    items.sort(key=_order)


def _order(item: pytest.Item) -> int:
    if item.path.stem.endswith(("_ranks", "torchrun", "machines")):
        return 0
    module = getattr(item, "module", None)
    return 1 if hasattr(module, "start_process") or hasattr(module, "start_command") else 2


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later collection of garbage; they are rarer, too."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)  # a compiler makes many objects that stay for a while
    gc.enable()


def pytest_addoption(parser):
    """Add the device that `tests/contracts/test_devices.py` computes on."""
    parser.addoption(
        "--device",
        default="pretended",
        help="Of the tests of devices: pretended, cuda or cuda:N; skipped where there is none.",
    )


@pytest.fixture(scope="session", autouse=True)
def small_runs():
    """Runs leave out what `tests.small_runs` says; the tests of pictures draw curves."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out(patch)
        yield


@pytest.fixture(scope="session")
def transformers():
    """The library that others publish with, silent."""
    library = pytest.importorskip("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory):
    """A TSV file of 400 toy pairs."""
    return write_tsv(tmp_path_factory.mktemp("data") / "pairs.tsv", toy_pairs(400))


@pytest.fixture(scope="session")
def few_pairs_file(tmp_path_factory):
    """A TSV file of 100 toy pairs."""
    return write_tsv(tmp_path_factory.mktemp("data") / "few.tsv", toy_pairs(100))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, pairs_file):
    """A finished run on the toy pairs: its folder, and the events that it reported."""
    from regard.runs.run import train

    folder, events = tmp_path_factory.mktemp("models") / "toy", []
    train(pairs_file, folder, settings=TINY, report=events.append)
    return folder, events


@pytest.fixture(scope="session")
def trained(trained_run):
    """The model folder of that run."""
    folder, _ = trained_run
    return folder
