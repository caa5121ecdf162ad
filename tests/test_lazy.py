"""Public names and entries of registries are imported when they are first used, and only then."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

import regard.attention
import regard.attention.backends.cpu_kernels
import regard.attention.patterns
import regard.bench
import regard.data
import regard.data.readers
import regard.explain
import regard.generation
import regard.generation.native
import regard.hub
import regard.hub.hugging_face
import regard.layers
import regard.metrics
import regard.models
import regard.optim
import regard.plots
import regard.settings
import regard.setup
import regard.training
from regard.lazy import Registry, import_lazily, load
from regard.models import (
    CHECKPOINT_FORMATS,
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    FORECASTERS,
    INPUT_CHECKPOINT_FORMATS,
    INPUT_ENCODERS,
)
from regard.tasks import TASKS

PACKAGES = [
    regard.attention,
    regard.attention.backends.cpu_kernels,
    regard.attention.patterns,
    regard.data,
    regard.data.readers,
    regard.explain,
    regard.generation,
    regard.generation.native,
    regard.hub,
    regard.hub.hugging_face,
    regard.layers,
    regard.metrics,
    regard.models,
    regard.optim,
    regard.plots,
    regard.settings,
    regard.setup,
    regard.training,
]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_of_a_lazy_package_is_imported_when_it_is_used(package):
    assert set(package._packages) <= set(package.__all__)
    for name in package.__all__:
        value = getattr(package, name)
        assert value is not None
        assert isinstance(value, ModuleType) == (name in package._packages)


def test_a_function_goes_before_the_module_of_its_name():
    import regard.attention.attend as module

    assert sys.modules["regard.attention.attend"].attend is regard.attention.attend
    assert module is regard.attention.attend  # as with every package that imports it at once


@pytest.mark.parametrize("package", [regard.layers, regard.training])
def test_an_unknown_name_of_a_lazy_package_is_refused(package):
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute 'zzz'"):
        _ = package.zzz


def test_a_package_without_its_source_says_so(monkeypatch):
    loader = SimpleNamespace(get_source=lambda _: None)
    monkeypatch.setattr(regard.plots, "__loader__", loader)
    with pytest.raises(ImportError, match=r"regard\.plots: its source is missing"):
        import_lazily("regard.plots")


def test_readers_and_rows_of_text_load_no_torch():
    script = (
        "import sys, regard.data; print(regard.data.readers.read_pairs.__name__); "
        "from regard.data import ParallelCorpus, TimeSeries, guess_language; "
        "from regard.data.readers import read_pairs, read_questions, read_time_series; "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "read_pairs\nFalse\n"


def test_an_entry_is_imported_when_it_is_first_used():
    registry = Registry({"name": "json.decoder.JSONDecoder", "other": "no.such.module"})
    assert list(registry) == ["name", "other"]
    assert "other" in registry
    assert registry["name"] is load("json.decoder.JSONDecoder")
    with pytest.raises(ModuleNotFoundError, match="no"):
        _ = registry["other"]
    assert list(registry | Registry({"third": "json.loads"})) == ["name", "other", "third"]


@pytest.mark.parametrize(
    "registry",
    [
        TASKS,
        regard.attention.BIASES,
        regard.attention.SCORES,
        regard.bench.PEERS,
        regard.data.readers.TABLE_READERS,
        regard.optim.OPTIMIZERS,
        regard.optim.SCHEDULES,
        CHECKPOINT_FORMATS,
        INPUT_CHECKPOINT_FORMATS,
    ],
)
def test_every_dotted_name_of_a_registry_is_there(registry):
    assert all(registry[name] is not None for name in registry)


def test_tasks_and_formats_have_the_names_of_their_entries():
    assert [task.name for task in TASKS.values()] == list(TASKS)
    assert [layout.model_type for layout in CHECKPOINT_FORMATS.values()] == list(CHECKPOINT_FORMATS)


@pytest.mark.parametrize(
    "families", [ENCODER_DECODERS, DECODERS, ENCODERS, INPUT_ENCODERS, FORECASTERS]
)
def test_a_family_has_the_tag_of_its_entry(families):
    for name, family in families.items():
        assert family.config.__struct_config__.tag == name
        assert callable(family.model)
        assert all(layout is not None for layout in family.formats)


def test_events_and_signals_load_no_torch():
    script = "import sys; from regard.training import Event, Stopped; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"
