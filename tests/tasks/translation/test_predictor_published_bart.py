"""Published BART models write what `transformers` writes, are gone on from, and go out again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.tasks.translation.published_bart import BOS, EOS, PAD, UNK, bart_folder, peer_rows
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
from regard.data.batching import SpecialIds
from regard.errors import ConfigError
from regard.generation.native import library
from regard.hub.hugging_face.generation_rules import GenerationRules, read_generation_rules
from regard.runs.export_check import export_model
from regard.runs.run import train
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.tasks.translation.predictor import Translator
from regard.training.events import Started

BEAMS = {"length_penalty": 0.0, "early_stopping": "never"}  # both rank by log-probability then


@pytest.fixture(scope="module")
def bart(transformers, tmp_path_factory):
    """A published folder."""
    return bart_folder(transformers, tmp_path_factory.mktemp("hf") / "bart")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of the languages that the vocabulary was made of."""
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs.tsv")


@pytest.fixture(scope="module")
def gone_on(bart, pairs, tmp_path_factory):
    """A run that went on from the folder, and the figures that it began with."""
    return go_on(bart, pairs, tmp_path_factory.mktemp("models") / "more")


def peer_texts(transformers, folder: Path, **options) -> list[str]:
    """Write by `transformers`, one text at a time, as much as a search of ours may."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BartForConditionalGeneration.from_pretrained(folder).eval()
    model.generation_config.max_length = None
    room = model.config.max_position_embeddings
    rows = []
    for text in TEXTS:
        most = min(room, 2 * len(tokenizer(text).input_ids) + 10)
        rows.append(peer_rows(model, tokenizer, text, max_new_tokens=most, **options))
    return tokenizer.batch_decode(rows, skip_special_tokens=True)


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("forced", [9, None])
def test_texts_are_those_of_generate(forced, transformers, tmp_path):
    outputs = []
    for seed in range(2):
        folder = bart_folder(
            transformers,
            tmp_path / str(seed),
            seed=4 * seed,
            forced_bos_token_id=forced,
            forced_eos_token_id=EOS if seed % 2 else None,
        )
        translator = load(folder)
        greedy = translator.translate(TEXTS, beam=1)
        assert greedy == peer_texts(transformers, folder, num_beams=1)
        searched = translator.translate(TEXTS, beam=4, length_penalty=0.0)
        assert searched == peer_texts(transformers, folder, num_beams=4, **BEAMS)
        outputs += greedy
    assert len(set(outputs)) > 5


@pytest.mark.slow
def test_an_output_begins_with_what_is_forced_and_is_ended_at_its_limit(transformers, tmp_path):
    for seed in range(2):
        folder = bart_folder(
            transformers, tmp_path / str(seed), seed=seed, forced_bos_token_id=9, max_length=6
        )
        translator = load(folder)
        assert translator.config.search.max_length == 5
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.BartForConditionalGeneration.from_pretrained(folder).eval()
        for beam, options in ((1, {}), (4, BEAMS)):
            found = translator.translate_best(TEXTS, beam=beam, length_penalty=0.0)
            rows = [peer_rows(model, tokenizer, text, num_beams=beam, **options) for text in TEXTS]
            assert all(len(row) <= 5 and row[0] == 9 and EOS in row for row in rows)
            wanted = tokenizer.batch_decode(rows, skip_special_tokens=True)
            assert [best[0].text for best in found] == wanted
            assert all(best[0].is_complete for best in found)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_lengths_and_repetitions_are_those_that_a_folder_wants(size, transformers, tmp_path):
    rules = {"min_length": 12, "no_repeat_ngram_size": size}
    folder = bart_folder(transformers, tmp_path, seed=8, **rules)
    translator = load(folder)
    for beam, options in ((1, {}), (4, BEAMS)):
        found = translator.translate(TEXTS, beam=beam, length_penalty=0.0)
        assert found == peer_texts(transformers, folder, num_beams=beam, **options)
    plain = bart_folder(transformers, tmp_path / "plain", seed=8)
    assert load(plain).translate(TEXTS, beam=1) != translator.translate(TEXTS, beam=1)


def test_what_is_forbidden_is_not_written(bart):
    translator = load(bart)
    assert translator.config.search.forbidden == (UNK, PAD)
    assert not any("<unk>" in text for text in translator.translate(TEXTS, beam=2))


def without_post_processor(folder: Path) -> Path:
    """Take the tokens around a text from a folder, as a plain tokenizer is saved."""
    path = folder / "tokenizer.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"post_processor": None}))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.slow
def test_a_vocabulary_that_adds_no_end_reads_a_source_without_one(transformers, tmp_path):
    for seed in range(3):
        folder = tmp_path / str(seed)
        without_post_processor(bart_folder(transformers, folder, seed=seed))
        translator = load(folder)
        ids = special_ids(translator.model, translator.tokenizer)
        assert (ids.after_source, translator.tokenizer.begin_ids) == ((), ())
        greedy = translator.translate(TEXTS, beam=1)
        assert greedy == peer_texts(transformers, folder, num_beams=1)
        searched = translator.translate(TEXTS, beam=4, length_penalty=0.0)
        assert searched == peer_texts(transformers, folder, num_beams=4, **BEAMS)
    alignment = translator.align("7 red", "rote Katze")
    assert len(alignment.weights[0]) == len(alignment.source_pieces)
    assert "</s>" not in alignment.source_pieces
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    check = export_model(translator, tmp_path / "out", texts_path=texts).texts
    assert (check.num_texts, check.is_equal) == (len(TEXTS), True)


def test_a_folder_tells_its_special_tokens_and_what_begins_a_source(bart):
    translator = load(bart)
    assert isinstance(translator, Translator)
    assert special_ids(translator.model, translator.tokenizer) == SpecialIds(PAD, EOS, EOS)
    assert translator.tokenizer.begin_ids == (BOS,)
    search = translator.config.search
    assert (search.max_length, search.forced_first, search.forces_end) == (60, BOS, True)
    assert translator.config.data.max_length == 58


def test_the_longest_text_counts_what_begins_and_ends_it(bart, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(bart, folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(settings | {"model_max_length": 12}))
    assert load(folder).config.data.max_length == 10


def test_the_two_files_of_old_folders_give_the_same_texts(bart, tmp_path):
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((bart / name).read_bytes())
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((bart / name).read_bytes())
    old, new = load(tmp_path), load(bart)
    assert old.tokenizer.begin_ids == (BOS,)
    assert old.tokenizer.encode(TEXTS) == new.tokenizer.encode(TEXTS)
    assert old.translate(TEXTS) == new.translate(TEXTS)


@pytest.mark.slow
def test_rows_together_are_rows_alone_and_an_empty_one_stays_empty(bart):
    translator = load(bart)
    together = translator.translate([*TEXTS, ""], beam=2)
    assert together[-1] == ""
    assert together == [translator.translate([text], beam=2)[0] for text in [*TEXTS, ""]]


def test_a_text_that_fills_the_table_of_positions_is_read_whole(bart, monkeypatch):
    monkeypatch.setattr(library, "load_fastest", lambda: None)  # which would encode by itself
    translator, lengths = load(bart), []
    encode = translator.model.encode
    monkeypatch.setattr(
        translator.model,
        "encode",
        lambda ids, *rest: lengths.append(ids.shape[1]) or encode(ids, *rest),
    )
    translator.translate(["the old river by a house " * 30], beam=1)
    assert 40 < max(lengths) <= 60


def test_an_alignment_shows_the_tokens_of_the_text(bart):
    found = load(bart).align("the dog", "der Hund")
    assert "".join(found.source_pieces) == "the dog</s>"
    assert "".join(found.target_pieces) == "der Hund</s>"
    assert len(found.weights) == len(found.target_pieces)
    assert {len(row) for row in found.weights} == {len(found.source_pieces)}
    assert all(0 < sum(row) <= 1 + 1e-5 for row in found.weights)
    assert found.words()


def test_the_commands_translate_and_draw(bart, capsys):
    assert main(["translate", str(bart), "the dog sees the cat"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == load(bart).translate(["the dog sees the cat"])[0]
    assert main(["info", str(bart), "--diagram", "mermaid"]) == 0
    drawn = capsys.readouterr().out
    assert "62 learned positions<br/>layer norm" in drawn


# --- what folders say of outputs ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields", "rules"),
    [
        ("config.json", {}, (None, False, None)),
        ("config.json", {"forced_eos_token_id": None}, (None, False, None)),
        ("config.json", {"forced_eos_token_id": 2, "eos_token_id": 2}, (None, True, None)),
        ("config.json", {"max_length": 142, "forced_bos_token_id": 0}, (0, False, 141)),
        (
            "config.json",
            {"min_length": 56, "no_repeat_ngram_size": 3, "forced_eos_token_id": None},
            (None, False, None, 56, 3),
        ),
        ("config.json", {"force_bos_token_to_be_generated": True}, (0, False, None)),
        ("generation_config.json", {}, (None, False, None)),
        ("generation_config.json", {"forced_eos_token_id": 2}, (None, True, None)),
        (
            "generation_config.json",
            {"forced_eos_token_id": [7], "eos_token_id": 2},
            (None, False, None, 0, 0, None, 1.0, False, 1.0, False, 7),
        ),
    ],
)
def test_what_is_forced_is_read(name, fields, rules, tmp_path):
    (tmp_path / "config.json").write_text('{"forced_bos_token_id": 5}')
    (tmp_path / name).write_text(json.dumps(fields))
    assert read_generation_rules(tmp_path) == GenerationRules(*rules)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"forced_eos_token_id": [7, 8], "eos_token_id": 2},
            "forced_eos_token_id=[7, 8]: one id of a token was expected.",
        ),
        (
            {"forced_eos_token_id": 7, "suppress_tokens": [3, 7]},
            "forced_eos_token_id=7: a token that is not in suppress_tokens was expected.",
        ),
        ({"forced_bos_token_id": [0]}, "forced_bos_token_id=[0]: 0 or more was expected."),
        ({"max_length": "long"}, 'max_length="long": 0 or more was expected.'),
    ],
    ids=str,
)
def test_what_cannot_be_forced_is_refused(fields, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ConfigError) as caught:
        read_generation_rules(tmp_path)
    assert str(caught.value) == f"{tmp_path}/config.json: {message}"


# --- going on, and out again ----------------------------------------------------------------------


@pytest.mark.slow
def test_going_on_lowers_the_loss_and_keeps_vocabulary_and_search(gone_on, bart):
    folder, before = gone_on
    translator, published = load(folder), load(bart)
    assert last_loss(folder) < before["loss"]
    assert translator.config.search == published.config.search
    assert translator.tokenizer.encode(TEXTS) == published.tokenizer.encode(TEXTS)
    assert len(translator.translate(TEXTS, beam=2)) == len(TEXTS)


@pytest.mark.slow
def test_the_loss_before_is_that_of_transformers(gone_on, bart, transformers, pairs, tmp_path):
    rows = [line.split("\t") for line in pairs.read_text().splitlines()[:20]]
    few = write_tsv(tmp_path / "few.tsv", rows)
    events = []
    settings = (f"start_from={bart}", *SETTINGS, f"data.valid={few}", "data.allow_overlap=true")
    train(pairs, tmp_path / "model", settings=settings, report=events.append)
    (started,) = [event for event in events if isinstance(event, Started)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(bart)
    model = transformers.BartForConditionalGeneration.from_pretrained(bart).eval()
    total, num_tokens = 0.0, 0
    with torch.no_grad():
        for source, target in rows:
            labels = tokenizer([target], return_tensors="pt").input_ids
            loss = model(**tokenizer([source], return_tensors="pt"), labels=labels).loss
            total += float(loss) * labels.numel()
            num_tokens += labels.numel()
    assert started.measures["loss"] == pytest.approx(total / num_tokens, rel=1e-4)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_bits(gone_on, bart, pairs, tmp_path):
    assert_ends_alike_when_stopped(bart, pairs, tmp_path / "c", gone_on[0])


@pytest.mark.slow
def test_a_summarizer_without_a_row_for_its_mask_is_gone_on_from(bart, pairs, tmp_path):
    folder = tmp_path / "cnn"
    shutil.copytree(bart, folder)
    tensors = load_file(bart / "model.safetensors")
    fields = json.loads((bart / "config.json").read_text())
    fields["vocab_size"] -= 1
    tensors["model.shared.weight"] = tensors["model.shared.weight"][:-1].clone()
    tensors["final_logits_bias"] = tensors["final_logits_bias"][:, :-1].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fields))
    texts = load(folder).translate(TEXTS)
    train(pairs, tmp_path / "more", settings=(f"start_from={folder}", *SETTINGS))
    ours = load(tmp_path / "more")
    export_model(ours, tmp_path / "out")
    assert load(tmp_path / "out").translate(TEXTS) == ours.translate(TEXTS) != texts


@pytest.mark.slow
def test_an_exported_model_writes_alike_in_transformers(gone_on, transformers, tmp_path):
    ours = load(gone_on[0])
    again = assert_goes_out(ours, tmp_path / "out", TEXTS, "bart")
    assert again.config.search == ours.config.search
    wanted = peer_texts(transformers, tmp_path / "out", num_beams=1)
    assert again.translate(TEXTS, beam=1) == wanted


@pytest.mark.slow
def test_one_of_ours_with_a_norm_of_embeddings_trains_and_goes_out(transformers, tmp_path):
    shape = {
        "norm": "post",
        "activation": "gelu",
        "positions": "learned",
        "max_positions": 300,
        "position_offset": 2,
        "has_embedding_norm": "true",
        "has_copy": "false",
    }
    settings = (*TINY, *(f"model.{name}={value}" for name, value in shape.items()))
    data = write_tsv(tmp_path / "pairs.tsv", toy_pairs(300))
    ours = train(data, tmp_path / "ours", settings=(*settings, "training.precision=float32"))
    assert_goes_out(ours, tmp_path / "out", [source for source, _ in toy_pairs(20)], "bart")
