"""By what a folder says of its search, regard writes what `model.generate()` writes."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.tasks.translation.published_bart import EOS, bart_folder
from tests.tasks.translation.published_marian import marian_folder
from tests.tasks.translation.published_pairs import TEXTS

import regard
from regard.__main__ import main
from regard.data.batching import TokenRows
from regard.errors import ConfigError
from regard.hub.any_tokenizer import prepend_special_tokens
from regard.hub.hugging_face.generation_rules import GenerationRules, read_generation_rules
from regard.runs.export_check import export_model
from regard.tasks.sequence_to_sequence.decode_rows import (
    decode_rows,
    forbid_unused_ids,
    special_ids,
)

SEEDS = (0, 6, 12)  # the higher, the sooner an output ends
LIVELY = {"no_repeat_ngram_size": 2, "max_length": 14}  # else random models repeat themselves
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1, "max_length": 14},
    "as usual": {"num_beams": 4, "max_length": 14},
    "lively": LIVELY | {"num_beams": 4},
    "long": LIVELY | {"num_beams": 4, "length_penalty": 2.0},
    "short": LIVELY | {"num_beams": 3, "length_penalty": 0.4},
    "shorter": LIVELY | {"num_beams": 5, "length_penalty": -1.0, "min_length": 3},
    "first": LIVELY | {"num_beams": 4, "early_stopping": True},
    "first, long": LIVELY | {"num_beams": 2, "early_stopping": True, "length_penalty": 2.0},
    "never": LIVELY | {"num_beams": 4, "early_stopping": "never", "min_length": 3},
    "never, long": LIVELY | {"num_beams": 4, "early_stopping": "never", "length_penalty": 1.5},
    "no triples": {"num_beams": 4, "no_repeat_ngram_size": 3, "max_length": 16},
    "summary": {"num_beams": 4, "length_penalty": 2.0, "no_repeat_ngram_size": 3}
    | {"min_length": 6, "early_stopping": True, "max_length": 16, "forced_eos_token_id": EOS},
    "another last": {"num_beams": 4, "max_length": 9, "forced_eos_token_id": 7}
    | {"length_penalty": 1.3, "no_repeat_ngram_size": 2},
    "another last, greedy": {"num_beams": 1, "max_length": 9, "forced_eos_token_id": 7},
    "dear": {"num_beams": 4, "repetition_penalty": 1.7, "max_length": 14},
    "dear greedy": {"num_beams": 1, "repetition_penalty": 1.7, "max_length": 14},
    "renormalised": LIVELY | {"num_beams": 4, "renormalize_logits": True, "min_length": 3},
    "all of it": {"num_beams": 3, "repetition_penalty": 1.3, "renormalize_logits": True}
    | {"no_repeat_ngram_size": 2, "min_length": 4, "length_penalty": 0.7, "max_length": 12},
    "new tokens": {"num_beams": 4, "max_new_tokens": 9, "min_new_tokens": 4},
}


@pytest.fixture(scope="module")
def barts(transformers, tmp_path_factory):
    """Folders of several draws of the weights; the search they ask for is written anew."""
    place = tmp_path_factory.mktemp("hf")
    return [bart_folder(transformers, place / str(seed), seed=seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def marians(transformers, tmp_path_factory):
    sentencepiece = pytest.importorskip("sentencepiece")
    place = tmp_path_factory.mktemp("hf")
    return [
        marian_folder(transformers, sentencepiece, place / str(seed), seed=seed)
        for seed in (0, 2, 3)
    ]


@pytest.fixture(scope="module")
def peer(transformers):
    """Return the model of a folder, opened once, with the search that the folder asks for now."""
    opened: dict[Path, Any] = {}

    def open_folder(folder: Path) -> Any:
        if folder not in opened:
            opened[folder] = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        search = transformers.GenerationConfig.from_pretrained(folder)
        opened[folder].generation_config = search
        return opened[folder]

    return open_folder


@pytest.fixture(scope="module")
def written(barts):
    """Return what regard writes by one of the searches: the sources and outputs of each folder."""

    @functools.cache
    def write(name: str) -> list[tuple[list[list[int]], list[list[int]]]]:
        outputs = []
        for folder in barts:
            ask_for(folder, SEARCHES[name])
            outputs.append(our_outputs(folder))
        return outputs

    return write


def ask_for(folder: Path, search: dict[str, Any], end: int = EOS) -> None:
    """Write what a folder says of its search."""
    fields = json.loads((folder / "generation_config.json").read_text())
    kept = {name: fields[name] for name in fields if name.endswith("token_id")}
    kept |= {"eos_token_id": end, "bad_words_ids": fields["bad_words_ids"]}
    kept["forced_eos_token_id"] = None
    (folder / "generation_config.json").write_text(json.dumps(kept | search))


def peer_outputs(model: Any, rows: list[list[int]], end: int) -> list[list[int]]:
    """Write by the folder's own settings, one row at a time, without begin, end and padding."""
    import torch

    written = []
    for row in rows:
        (found,) = model.generate(input_ids=torch.tensor([[*row, end]])).tolist()
        written.append([token for token in found[1:] if token != end])
    return written


def our_outputs(folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Write by the folder's own settings; the sources, and the outputs."""
    opened: Any = regard.load(folder)
    rows = prepend_special_tokens(opened.tokenizer, opened.tokenizer.encode(TEXTS))
    search = forbid_unused_ids(opened.config.search, opened.model, opened.tokenizer)
    ids = special_ids(opened.model, opened.tokenizer)
    found = decode_rows(opened.model, TokenRows(rows), range(len(rows)), search, ids)
    return [list(row) for row in rows], [hypotheses[0].ids for hypotheses in found]


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_outputs_are_those_of_generate_token_for_token(name, peer, barts, written):
    outputs = []
    for folder, (rows, ours) in zip(barts, written(name), strict=True):
        ask_for(folder, SEARCHES[name])
        assert ours == peer_outputs(peer(folder), rows, EOS)
        outputs += ours
    assert len({tuple(row) for row in outputs}) > 4
    assert len({len(row) for row in outputs}) > 1


@pytest.mark.slow
def test_each_search_writes_something_else(written):
    outputs = {json.dumps([ours for _, ours in written(name)]) for name in SEARCHES}
    assert len(outputs) >= len(SEARCHES) - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["as usual", "long", "first", "summary"])
def test_outputs_of_marian_are_those_of_generate_token_for_token(name, peer, marians):
    outputs = []
    for folder in marians:
        search = {key: SEARCHES[name][key] for key in SEARCHES[name] if "forced" not in key}
        ask_for(folder, search, end=0)
        rows, ours = our_outputs(folder)
        assert ours == peer_outputs(peer(folder), rows, 0)
        outputs += ours
    assert len({tuple(row) for row in outputs}) > 4


def test_an_older_folder_tells_its_search_in_its_config(transformers, barts, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(barts[1], folder)
    fields = json.loads((folder / "config.json").read_text())
    fields |= json.loads((folder / "generation_config.json").read_text())
    fields |= SEARCHES["summary"]
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "generation_config.json").unlink()
    model = transformers.BartForConditionalGeneration.from_pretrained(folder).eval()
    assert model.generation_config.num_beams == 4
    rows, ours = our_outputs(folder)
    assert ours == peer_outputs(model, rows, EOS)


# --- how it is used -------------------------------------------------------------------------------


def test_the_command_searches_as_the_folder_says_and_options_go_before(barts, capsys):
    folder = barts[1]
    ask_for(folder, SEARCHES["summary"])
    opened: Any = regard.load(folder)

    def command(*options: str) -> str:
        assert main(["translate", str(folder), TEXTS[0], *options, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["outputs"][0]["text"]

    assert command() == opened.translate(TEXTS[:1])[0]
    assert command() == opened.translate(TEXTS[:1], beam=4, length_penalty=2.0)[0]
    assert command("--beam", "1") == opened.translate(TEXTS[:1], beam=1)[0] != command()
    assert main(["info", str(folder)]) == 0
    assert (
        "Search  beam 4, log-probability / length^2, at most 15 tokens, at least 6, "
        "no 3 in a row twice\n"
    ) in capsys.readouterr().out


def test_what_the_folder_leaves_open_is_as_ever(barts):
    ask_for(barts[0], {})
    opened: Any = regard.load(barts[0])
    search = opened.config.search
    assert (search.beam, search.length_penalty, search.max_length_ratio) == (4, 1.0, 2.0)
    assert (search.ranking, search.stopping, search.max_length) == ("transformers", "likely", 60)


@pytest.mark.slow
def test_a_model_that_goes_out_and_comes_back_searches_as_before(barts, tmp_path):
    ask_for(barts[0], SEARCHES["all of it"] | {"early_stopping": "never"})
    opened: Any = regard.load(barts[0])
    export_model(opened, tmp_path / "out")
    again: Any = regard.load(tmp_path / "out")
    assert again.config.search == opened.config.search
    own = msgspec.structs.replace(opened.config.search, ranking="wu", stopping="certain")
    opened.config = msgspec.structs.replace(opened.config, search=own)
    export_model(opened, tmp_path / "own")
    again = regard.load(tmp_path / "own")
    assert again.config.search == own


def test_own_settings_that_are_none_are_refused(barts):
    ask_for(barts[0], {"regard": {"ranking": "best"}})
    with pytest.raises(ConfigError) as caught:
        regard.load(barts[0])
    place = barts[0] / "generation_config.json"
    assert str(caught.value) == (
        f"{place}: regard: Invalid enum value 'best' - at `$.ranking`.  Take regard out."
    )


# --- what is read ---------------------------------------------------------------------------------


def test_the_search_is_read(tmp_path):
    fields = {"num_beams": 6, "length_penalty": 2, "early_stopping": "never"}
    fields |= {"repetition_penalty": 1.2, "renormalize_logits": True, "max_new_tokens": 30}
    fields |= {"max_length": 512, "min_new_tokens": 3, "do_sample": False, "num_beam_groups": 1}
    (tmp_path / "config.json").write_text('{"decoder_start_token_id": 2}')
    (tmp_path / "generation_config.json").write_text(json.dumps(fields))
    assert read_generation_rules(tmp_path) == GenerationRules(
        first_id=None,
        has_end=False,
        max_length=30,
        min_length=4,
        beam=6,
        length_penalty=2.0,
        early_stopping="never",
        repetition_penalty=1.2,
        is_renormalized=True,
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"do_sample": True},
            "do_sample=true: no search here does that, so the outputs would not be those the "
            "folder asks for.  To do without it, take do_sample out.",
        ),
        (
            {"num_beam_groups": 2},
            "num_beam_groups=2: no search here does that, so the outputs would not be those the "
            "folder asks for.  To do without it, take num_beam_groups out.",
        ),
        (
            {"eos_token_id": [2, 3]},
            "eos_token_id=[2, 3]: one token ends an output here, not several.  Leave the one that "
            "the vocabulary names as its end.",
        ),
        (
            {"decoder_start_token_id": 5},
            "decoder_start_token_id=5: config.json has 2, and the two must be equal.",
        ),
        ({"num_beams": 0}, "num_beams=0: more than 0 was expected."),
        ({"num_beams": 2.5}, "num_beams=2.5: 0 or more was expected."),
        ({"length_penalty": "long"}, 'length_penalty="long": a number was expected.'),
        ({"repetition_penalty": 0}, "repetition_penalty=0: more than 0 was expected."),
        (
            {"early_stopping": "soon"},
            'early_stopping="soon": true, false or "never" was expected.',
        ),
    ],
    ids=str,
)
def test_what_no_search_here_does_is_refused(fields, message, tmp_path):
    (tmp_path / "config.json").write_text('{"decoder_start_token_id": 2}')
    (tmp_path / "generation_config.json").write_text(json.dumps(fields))
    with pytest.raises(ConfigError) as caught:
        read_generation_rules(tmp_path)
    assert str(caught.value) == f"{tmp_path}/generation_config.json: {message}"
