"""Published Marian models translate as `transformers` does, are gone on from, and go out again."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from tests.conftest import TINY, toy_pairs
from tests.tasks.translation.published_marian import marian_folder
from tests.tasks.translation.published_pairs import (
    SETTINGS,
    TEXTS,
    assert_ends_alike_when_stopped,
    assert_goes_out,
    go_on,
    last_loss,
    load,
    write_pairs,
)

from regard.__main__ import main
from regard.data.batching import SpecialIds, TokenRows
from regard.errors import ConfigError, WeightsError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.hugging_face.generation_rules import forbidden_ids
from regard.runs.export_check import export_model
from regard.runs.run import train
from regard.tasks.sequence_to_sequence.decode_rows import decode_rows, special_ids
from regard.tasks.translation.predictor import Translator


@pytest.fixture(scope="module")
def sentencepiece():
    return pytest.importorskip("sentencepiece")


@pytest.fixture(scope="module")
def marian(transformers, sentencepiece, tmp_path_factory):
    """A published folder."""
    return marian_folder(transformers, sentencepiece, tmp_path_factory.mktemp("hf") / "marian")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of the languages that the folder has pieces for."""
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs.tsv")


@pytest.fixture(scope="module")
def gone_on(marian, pairs, tmp_path_factory):
    """A run that went on from the folder, and the figures that it began with."""
    return go_on(marian, pairs, tmp_path_factory.mktemp("models") / "more")


def peer_outputs(transformers, folder, **options) -> list[str]:
    """Translate by `transformers`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package that it does not use
        tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    model = transformers.MarianMTModel.from_pretrained(folder).eval()
    rows = tokenizer(TEXTS, return_tensors="pt", padding=True)
    written = model.generate(**rows, do_sample=False, max_new_tokens=12, **options)
    return [row[1:] for row in written.tolist()]


def our_outputs(translator: Translator, **options):
    config = BeamSearchConfig(
        max_length_ratio=9.0,
        max_length=12,
        forbidden=translator.config.search.forbidden,
        **options,
    )
    sources = TokenRows(translator.tokenizer.encode(TEXTS))
    ids = special_ids(translator.model, translator.tokenizer)
    found = decode_rows(translator.model, sources, range(len(TEXTS)), config, ids)
    return [hypotheses[0].ids for hypotheses in found]


def until_end(rows):
    return [row[: row.index(0)] if 0 in row else row for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 4])
def test_search_writes_what_generate_writes(beam, transformers, sentencepiece, tmp_path):
    outputs = []
    for seed in range(6):
        folder = marian_folder(transformers, sentencepiece, tmp_path / str(seed), seed=seed)
        translator = load(folder)
        # Without a penalty both rank by the sum of log-probabilities.
        options = {"length_penalty": 0.0, "early_stopping": "never"} if beam > 1 else {}
        rows = peer_outputs(transformers, folder, num_beams=beam, **options)
        wanted = [[token for token in row if token != translator.model.pad_id] for row in rows]
        outputs += wanted
        assert our_outputs(translator, beam=beam, length_penalty=0.0) == until_end(wanted)
    assert {0 in row for row in outputs} == {True, False}  # some end by themselves
    assert len({tuple(row) for row in outputs}) > 10


def test_a_folder_tells_its_special_tokens_and_what_is_never_written(marian):
    translator = load(marian)
    assert isinstance(translator, Translator)
    pad = len(translator.tokenizer) - 1
    assert special_ids(translator.model, translator.tokenizer) == SpecialIds(pad, pad, 0)
    assert translator.config.search.forbidden == (pad, 1)
    assert translator.config.search.max_length == 40
    assert translator.config.data.max_length == 39


def test_without_what_is_forbidden_the_outputs_are_others(marian):
    translator = load(marian)
    ids = special_ids(translator.model, translator.tokenizer)
    sources = TokenRows(translator.tokenizer.encode(TEXTS))
    free = decode_rows(translator.model, sources, range(4), BeamSearchConfig(beam=1), ids)
    assert any(1 in found[0].ids for found in free)
    assert not any(1 in row for row in our_outputs(translator, beam=1))


@pytest.mark.slow
def test_rows_together_are_rows_alone(marian):
    translator = load(marian)
    together = translator.translate([*TEXTS, ""], beam=2)
    assert together[-1] == ""
    assert together == [translator.translate([text], beam=2)[0] for text in [*TEXTS, ""]]


def test_the_target_language_stands_before_every_part_of_a_long_text(marian, monkeypatch):
    translator, taken = load(marian), []
    encode = translator.tokenizer.encode
    monkeypatch.setattr(
        translator.tokenizer, "encode", lambda texts: taken.extend(texts) or encode(texts)
    )
    whole = ">>deu<< " + "the old river by a house " * 12
    translator.translate([whole], beam=1)
    parts = [text for text in taken if text.startswith(">>deu<<") and text != whole]
    assert len(parts) > 1
    assert all(len(row) <= 39 for row in encode(parts))


@pytest.mark.slow
def test_an_alignment_has_the_pieces_of_both_languages(marian):
    found = load(marian).align("the dog", "der Hund")
    assert "".join(found.source_pieces) == " the dog</s>"
    assert "".join(found.target_pieces) == " der Hund</s>"
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in found.weights)


@pytest.mark.slow
def test_the_commands_translate_and_evaluate(marian, pairs, capsys):
    assert main(["translate", str(marian), "the dog sees the cat", "--align"]) == 0
    text, pieces = capsys.readouterr().out.rstrip("\n").split("\t")
    assert text == load(marian).translate(["the dog sees the cat"])[0]
    assert len(pieces.split()) == len(text.split())
    few = pairs.parent / "few.tsv"
    few.write_text("".join(pairs.read_text().splitlines(keepends=True)[:4]))
    assert main(["evaluate", str(marian), str(few), "--beam", "1"]) == 0
    assert "training data not at hand" in capsys.readouterr().out


def test_a_folder_without_a_vocabulary_gives_logits_and_names_what_is_missing(marian, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((marian / name).read_bytes())
    opened = load(tmp_path)
    ids = torch.tensor([[3, 4, 0]])
    assert opened.model(ids, ids).shape == (1, 3, opened.model.vocab_size)
    with pytest.raises(WeightsError, match=r"tokenizer\.json: missing, so text cannot be read"):
        opened.translate(["the dog"])


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"bad_words_ids": [[7], [0], [9]], "eos_token_id": 0}, (7, 9)),
        ({"bad_words_ids": [[7]], "suppress_tokens": [8, 7], "eos_token_id": [0, 8]}, (7, 8)),
        ({}, ()),
    ],
)
def test_what_is_never_written_is_read_and_a_bad_word_never_is_an_end(fields, found, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert forbidden_ids(tmp_path, 99) == found
    (tmp_path / "generation_config.json").write_text(json.dumps({"bad_words_ids": [[5]]}))
    assert forbidden_ids(tmp_path, 99) == (5,)


def test_forbidden_sequences_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"bad_words_ids": [[3, 4]]}')
    with pytest.raises(ConfigError) as caught:
        forbidden_ids(tmp_path, 99)
    assert str(caught.value) == (
        f"{tmp_path}/config.json: bad_words_ids=[[3, 4]]: only single tokens can be forbidden.  "
        "Take out what is longer."
    )


# --- going on, and out again ----------------------------------------------------------------------


@pytest.mark.slow
def test_going_on_lowers_the_loss_and_keeps_vocabulary_and_search(gone_on, marian):
    folder, before = gone_on
    translator = load(folder)
    assert isinstance(translator, Translator)
    assert last_loss(folder) < before["loss"]
    assert (folder / "source.spm").read_bytes() == (marian / "source.spm").read_bytes()
    published = load(marian)
    assert translator.config.search.forbidden == published.config.search.forbidden
    assert translator.tokenizer.encode(TEXTS) == published.tokenizer.encode(TEXTS)
    assert len(translator.translate(TEXTS, beam=2)) == len(TEXTS)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_bits(gone_on, marian, pairs, tmp_path):
    assert_ends_alike_when_stopped(marian, pairs, tmp_path / "c", gone_on[0])


def test_padding_is_never_a_label(gone_on, marian):
    from regard.data.batching import PairBatches

    translator = load(gone_on[0])
    tokenizer, pad = translator.tokenizer, translator.model.pad_id
    sides = TokenRows(tokenizer.encode(TEXTS)), TokenRows(tokenizer.encode_targets(["Hund"] * 4))
    ids = special_ids(translator.model, tokenizer)
    batches = PairBatches(*sides, batch_tokens=10_000, seed=0, ids=ids)
    batch = batches.batch(batches.in_sequence()[0])
    lengths = (batch.source_ids != pad).sum(1)
    assert lengths.tolist() == [len(row) + 1 for row in map(sides[0].__getitem__, batch.rows)]
    assert (batch.target_ids[:, 0] == pad).all()
    assert (batch.labels == 0).sum() == 4


@pytest.mark.slow
def test_an_exported_model_translates_alike_in_transformers(gone_on, transformers, tmp_path):
    ours = load(gone_on[0])
    again = assert_goes_out(ours, tmp_path / "out", TEXTS, "marian")
    assert again.config.search.forbidden == ours.config.search.forbidden
    wanted = until_end(peer_outputs(transformers, tmp_path / "out", num_beams=1))
    assert our_outputs(again, beam=1) == wanted


def test_a_published_folder_goes_out_with_its_vocabulary(marian, tmp_path, capsys):
    assert main(["export", str(marian), "-o", str(tmp_path / "out")]) == 0
    assert "model_type marian" in capsys.readouterr().out
    for name in ("source.spm", "target.spm", "vocab.json"):
        assert (tmp_path / "out" / name).read_bytes() == (marian / name).read_bytes()


@pytest.mark.slow
def test_one_of_ours_goes_out_and_translates_alike(pairs_file, transformers, tmp_path):
    shape = ("model.norm=post", "model.positions=sinusoidal_halves", "model.max_positions=300")
    settings = (*TINY, *shape, "model.has_copy=false", "training.precision=float32")
    ours = train(pairs_file, tmp_path / "ours", settings=settings)
    texts = [source for source, _ in toy_pairs(20)]
    again = assert_goes_out(ours, tmp_path / "out", texts, "marian")
    assert special_ids(again.model, again.tokenizer) == SpecialIds()


@pytest.mark.slow
def test_a_role_that_has_no_layout_is_refused(tmp_path):
    data = tmp_path / "book.txt"
    data.write_text("".join(f"{source}\n" for source, _ in toy_pairs(100)))
    shape = ("model.family=transformer", "model.norm=post", "model.positions=sinusoidal_halves")
    sizes = ("model.dim=16", "model.num_heads=2", "model.hidden_dim=16", "training.epochs=1")
    train(data, tmp_path / "model", settings=(*shape, *sizes, "tokenizer.kind=byte"))
    with pytest.raises(ConfigError, match=r"no published layout .* one: gpt\..*`model.family=gpt`"):
        export_model(load(tmp_path / "model"), tmp_path / "out")


@pytest.mark.slow
def test_low_rank_changes_are_merged(marian, pairs, tmp_path):
    settings = (f"start_from={marian}", "fine_tuning.method=lora", *SETTINGS)
    train(pairs, tmp_path / "more", settings=settings)
    before, after = load(marian).model, load(tmp_path / "more").model
    assert torch.equal(before.output_weight, after.output_weight)
    name = "encoder.0.feed_forward.inner.weight"
    assert not torch.equal(before.get_parameter(name), after.get_parameter(name))


def test_data_for_another_task_is_refused(marian, tmp_path):
    data = tmp_path / "book.txt"
    data.write_text("".join(f"{source}\n" for source, _ in toy_pairs(100)))
    with pytest.raises(ConfigError) as caught:
        train(data, tmp_path / "model", settings=(f"start_from={marian}",))
    assert str(caught.value) == (
        f"{marian}: a model for translation (model_type marian); the data is for language-modeling."
    )
