"""Encoder-decoders whose sides begin as models that were trained alone."""

import pytest
import torch
from tests.conftest import toy_pairs, write_tsv

import regard
from regard.errors import ConfigError, WeightsError
from regard.hub.model_folder import ModelFolder
from regard.models import EncoderDecoderConfig, GptConfig
from regard.runs.export_check import export_model
from regard.runs.run import resume, train
from regard.setup.config import RunConfig
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.training.events import Evaluated, Saved

SHORT = (
    "data.max_length=32",
    "training.batch_tokens=256",
    "training.precision=float32",
)
OUTPUT = "search.max_length=8"
SIZES = ("model.hidden_dim=64", "model.num_heads=2", "model.num_layers=2")
BYTES = ("tokenizer.kind=byte", "tokenizer.tags=<mask>")  # the same vocabulary whatever the text
ALONE = (*SHORT, *SIZES, *BYTES, "preset=tiny", "training.epochs=1")
SMALL = ("model.encoder.dim=24", "model.encoder.hidden_dim=48")
MASKED = "task=masked-language-modeling"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "book.txt"
    path.write_text("".join(f"{source}.\n" for source, _ in toy_pairs(100)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_tsv(tmp_path_factory.mktemp("data") / "pairs.tsv", toy_pairs(60))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, book):
    folder = tmp_path_factory.mktemp("models") / "encoder"
    train(book, folder, settings=(*ALONE, "model.dim=32", MASKED))
    return folder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory, book):
    folder = tmp_path_factory.mktemp("models") / "decoder"
    train(book, folder, settings=(*ALONE, "model.dim=16"))
    return folder


def sides(encoder=None, decoder=None):
    given = {"encoder": encoder, "decoder": decoder}
    return tuple(f"fine_tuning.{name}={folder}" for name, folder in given.items() if folder)


def begun(pairs, folder, monkeypatch, *settings):
    """Run one epoch; return the weights that it began with, its settings and the translator."""
    import regard.runs.session_setup as module

    found = {}
    original = module.load_initial_weights

    def keep(model, config, pretrained):
        original(model, config, pretrained)
        found.update({name: p.detach().clone() for name, p in model.named_parameters()})

    monkeypatch.setattr(module, "load_initial_weights", keep)
    events = []
    translator = train(
        pairs,
        folder,
        settings=(*SHORT, OUTPUT, "training.epochs=1", *settings),
        report=events.append,
    )
    assert [event for event in events if isinstance(event, Evaluated)]
    return found, ModelFolder(folder).read_config(RunConfig), translator


@pytest.mark.slow
def test_both_sides_begin_as_they_were(encoder, decoder, pairs, tmp_path, monkeypatch):
    found, config, translator = begun(pairs, tmp_path / "m", monkeypatch, *sides(encoder, decoder))
    read, write = (ModelFolder(folder).read_weights() for folder in (encoder, decoder))
    for name, tensor in found.items():
        side, _, inner = name.partition(".")
        if side == "encoder":
            assert torch.equal(tensor, read[inner]), name
        elif side == "decoder" and ".cross_" not in name:
            inner = inner.replace(".self_residual.", ".attention_residual.")
            assert torch.equal(tensor, write[inner]), name
    assert isinstance(config.model, EncoderDecoderConfig)
    assert (config.model.encoder.dim, config.model.decoder.dim) == (32, 16)
    tokenizer = ModelFolder(encoder).read_tokenizer()
    assert translator.tokenizer.encode(["7 red cat"]) == tokenizer.encode(["7 red cat"])
    assert isinstance(translator.translate(["7 red cat"])[0], str)
    assert isinstance(regard.load(tmp_path / "m").translate(["7 red cat"])[0], str)


@pytest.mark.slow
def test_one_side_alone_leaves_the_other_to_its_preset(
    encoder, decoder, pairs, tmp_path, monkeypatch
):
    _, config, _ = begun(
        pairs,
        tmp_path / "a",
        monkeypatch,
        "model.decoder.dim=48",
        "model.decoder.hidden_dim=48",
        "model.family=encoder_decoder",
        *sides(encoder=encoder),
    )
    assert isinstance(config.model, EncoderDecoderConfig)
    assert (config.model.encoder.dim, config.model.decoder.dim) == (32, 48)
    _, config, _ = begun(pairs, tmp_path / "b", monkeypatch, *SMALL, *sides(decoder=decoder))
    assert isinstance(config.model, EncoderDecoderConfig)
    assert (config.model.encoder.dim, config.model.decoder.dim) == (24, 16)
    assert config.model.encoder.norm == "pre"  # as the preset has it


@pytest.mark.slow
def test_a_side_may_be_a_folder_that_others_publish(encoder, decoder, pairs, tmp_path, monkeypatch):
    export_model(regard.load(decoder), tmp_path / "hf")
    found, config, _ = begun(pairs, tmp_path / "m", monkeypatch, *sides(encoder, tmp_path / "hf"))
    assert isinstance(config.model, EncoderDecoderConfig)
    assert isinstance(config.model.decoder, GptConfig)
    wanted = ModelFolder(decoder).read_weights()["blocks.1.feed_forward.inner.weight"]
    assert torch.equal(found["decoder.blocks.1.feed_forward.inner.weight"], wanted)
    assert config.optimizer.name == "muon"  # the vocabulary is that of the encoder, one's own
    _, config, _ = begun(
        pairs, tmp_path / "n", monkeypatch, *sides(decoder=tmp_path / "hf"), *SMALL
    )
    assert (config.tokenizer.kind, config.optimizer.name) == ("published", "adamw")


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bits(encoder, decoder, pairs, tmp_path):
    class CrashError(Exception):
        pass

    def crash(event):
        if isinstance(event, Saved) and event.step > 2:
            raise CrashError

    settings = (*SHORT, OUTPUT, *sides(encoder, decoder), "training.epochs=1")
    train(pairs, tmp_path / "straight", settings=settings)
    with pytest.raises(CrashError):
        train(pairs, tmp_path / "crashed", settings=settings, report=crash)
    resume(tmp_path / "crashed")
    ours, theirs = (ModelFolder(tmp_path / n).read_weights() for n in ("crashed", "straight"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def message(pairs, folder, *settings) -> str:
    with pytest.raises((ConfigError, WeightsError)) as caught:
        train(pairs, folder, settings=(*SHORT, *settings))
    return str(caught.value)


@pytest.mark.slow
def test_other_vocabularies_are_refused(encoder, book, pairs, tmp_path):
    plain = tuple(setting for setting in ALONE if not setting.startswith("tokenizer.tags"))
    train(book, tmp_path / "d", settings=(*plain, "model.dim=16"))
    other = tmp_path / "d"
    assert message(pairs, tmp_path / "m", *sides(encoder, other)) == (
        f"{encoder} and {other}: have other vocabularies (260 tokens and 259 tokens), which only "
        "two folders in Hugging Face's layout without SentencePiece may.  Take two models with the "
        "same, or leave one side out, which then begins at random."
    )


@pytest.mark.slow
def test_padding_that_ends_the_sources_or_has_no_row_is_refused(pairs, tmp_path):
    settings = ("model.family=encoder_decoder", "preset=tiny", *BYTES)
    assert message(pairs, tmp_path / "m", *settings, "model.encoder.pad_id=2") == (
        "model.encoder.pad_id=2: this token ends the sources, so the encoder would take their end "
        "for padding.  Take another."
    )
    assert message(pairs, tmp_path / "n", *settings, "model.encoder.pad_id=300") == (
        "model.encoder.pad_id=300: the encoder's table has 260 rows of tokens.  "
        "Take one of 0 to 259."
    )


@pytest.mark.slow
def test_what_cannot_be_a_side_is_refused(encoder, decoder, pairs, book, tmp_path):
    assert message(pairs, tmp_path / "m", *sides(decoder)) == (
        f"fine_tuning.encoder={decoder}: a model of family gpt; the encoder may be one of bert, "
        "longformer, modernbert."
    )
    assert message(book, tmp_path / "m", *sides(encoder)) == (
        "fine_tuning.encoder: parts of an encoder-decoder; the data is for language-modeling."
    )
    assert message(pairs, tmp_path / "m", *sides(encoder), "model.family=transformer") == (
        "fine_tuning.encoder: a part of an encoder-decoder of the family encoder_decoder, not of a "
        "Transformer.  Leave `model.family` out."
    )
    assert message(pairs, tmp_path / "m", *sides(encoder), "fine_tuning.method=last") == (
        "fine_tuning.method=last: method must be all, not last: the attention between encoder "
        "and decoder starts at random"
    )
    assert message(pairs, tmp_path / "m", *sides(encoder), f"start_from={encoder}") == (
        "fine_tuning.encoder: a part of a new model; `start_from` takes a whole one.  "
        "Leave one of the two out."
    )
    assert "leave model.* out" in message(
        pairs, tmp_path / "n", *sides(encoder), "model.encoder.dim=64"
    )


def published_bert(folder, *, pad_id=0):
    """Write a BERT as ``transformers`` does, with words as pieces."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    words = sorted({word for pair in toy_pairs(400) for text in pair for word in text.split()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    config = transformers.BertConfig(
        vocab_size=len(pieces) + 3,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=pad_id,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return folder


@pytest.mark.slow
def test_a_published_bert_reads_for_a_new_decoder(pairs, tmp_path, monkeypatch):
    folder = published_bert(tmp_path / "bert")
    small = ("model.decoder.dim=16", "model.decoder.num_heads=2", "model.decoder.hidden_dim=32")
    found, config, translator = begun(
        pairs, tmp_path / "m", monkeypatch, *sides(encoder=folder), *small
    )
    tokenizer = translator.tokenizer
    assert translator.model.vocab_size == len(tokenizer) + 3 == config.tokenizer.table_rows
    assert special_ids(translator.model, tokenizer).end == tokenizer.special_ids["sep"] == 3
    assert not any(name.startswith("encoder.pooler") for name in found)
    again = regard.load(tmp_path / "m")
    assert again.translate(["7 red cat"]) == translator.translate(["7 red cat"])


def test_an_encoder_that_pads_by_what_ends_a_text_is_refused(pairs, tmp_path):
    folder = published_bert(tmp_path / "bert", pad_id=3)
    assert message(pairs, tmp_path / "m", *sides(encoder=folder)) == (
        f"{folder}: token 3 ends its texts, and by 3 the encoder's rows are filled up.  Take an "
        "encoder that pads with another token (pad_token_id)."
    )
