"""A RoBERTa that reads for a GPT-2 that writes: each with the vocabulary that it came with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import toy_pairs, write_tsv
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

import regard
from regard.__main__ import main
from regard.data.batching import PairBatches
from regard.hub.any_tokenizer import split_tokenizer
from regard.hub.hugging_face.source_target_tokenizer import SourceTargetTokenizer
from regard.hub.model_folder import ModelFolder
from regard.models import EncoderDecoderConfig, EncoderDecoderModel
from regard.runs.run import resume, train
from regard.setup.config import RunConfig
from regard.tasks.sequence_to_sequence.data import encode_pairs
from regard.tasks.sequence_to_sequence.decode_rows import special_ids
from regard.training.events import Evaluated, Saved, TokenizerSummary

SETTINGS = (
    "model.family=encoder_decoder",
    "data.max_length=32",
    "training.batch_tokens=256",
    "training.precision=float32",
    "training.epochs=2",
    "search.max_length=8",
)
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
END = "<|endoftext|>"


@pytest.fixture(scope="module")
def transformers():
    library = pytest.importorskip("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_tsv(tmp_path_factory.mktemp("data") / "pairs.tsv", toy_pairs(60))


def byte_pairs(folder: Path, texts: list[str], specials: tuple[str, ...], size: int) -> Backend:
    """Train byte-level byte pairs, with the last special tokens behind the others for GPT-2."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(specials if len(specials) > 1 else ()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if len(specials) == 1:
        backend.add_special_tokens(list(specials))
    else:
        backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    return backend


def scale_up(model: torch.nn.Module) -> None:
    """Draw weights so large that a wrong position or padding shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = ("ln_" in name or "LayerNorm" in name) and name.endswith("weight")
            size = 0.3 if parameter.dim() == 1 else 1.5 * 16**-0.5
            parameter.normal_(1.0 if is_norm else 0.0, size)


@pytest.fixture(scope="module")
def roberta(transformers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "roberta"
    backend = byte_pairs(folder, [source for source, _ in toy_pairs(200)], ROBERTA, 300)
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>"}
    settings = {f"{role}_token": token for role, token in names.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = transformers.RobertaConfig(
        vocab_size=backend.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=50,
        type_vocab_size=1,
    )
    model = transformers.RobertaForMaskedLM(config)
    scale_up(model)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(transformers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "gpt2"
    backend = byte_pairs(folder, [target for _, target in toy_pairs(200)], (END,), 280)
    settings = {"bos_token": END, "eos_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    end = backend.token_to_id(END)
    config = transformers.GPT2Config(
        vocab_size=backend.get_vocab_size(),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=48,
        bos_token_id=end,
        eos_token_id=end,
    )
    model = transformers.GPT2LMHeadModel(config)
    scale_up(model)
    model.save_pretrained(folder)
    return folder


def sides(roberta: Path, gpt2: Path) -> tuple[str, ...]:
    return (f"fine_tuning.encoder={roberta}", f"fine_tuning.decoder={gpt2}")


@pytest.fixture(scope="module")
def trained(roberta, gpt2, pairs, tmp_path_factory):
    """A run, and its events."""
    folder, events = tmp_path_factory.mktemp("models") / "m", []
    train(pairs, folder, settings=(*SETTINGS, *sides(roberta, gpt2)), report=events.append)
    return folder, events


def load(folder: Path) -> Any:
    return regard.load(folder)


@pytest.mark.slow
def test_each_side_keeps_its_vocabulary_begin_end_and_padding(trained, roberta, gpt2):
    folder, events = trained
    translator = load(folder)
    config = ModelFolder(folder).read_config(RunConfig).model
    assert isinstance(config, EncoderDecoderConfig)
    assert (config.encoder.position_offset, config.encoder.pad_id) == (2, 1)
    source, target = (Backend.from_file(str(side / "tokenizer.json")) for side in (roberta, gpt2))
    assert isinstance(translator.tokenizer, SourceTargetTokenizer)
    assert translator.tokenizer.encode(["7 red cat"]) == [
        source.encode("7 red cat", add_special_tokens=False).ids
    ]
    assert translator.tokenizer.encode_targets(["7 katze"]) == [target.encode("7 katze").ids]
    end = target.token_to_id(END)
    assert special_ids(translator.model, translator.tokenizer) == (1, end, end, 2, -1, None)
    assert config.source_rows == source.get_vocab_size() != target.get_vocab_size()
    assert translator.model.vocab_size == target.get_vocab_size()
    (tokens,) = [event for event in events if isinstance(event, TokenizerSummary)]
    assert not tokens.is_shared
    losses = [event.measures["loss"] for event in events if isinstance(event, Evaluated)]
    assert losses[-1] < losses[0]


def test_a_batch_has_the_tokens_of_each_side(trained):
    translator = load(trained[0])
    from regard.data.parallel_corpus import ParallelCorpus

    given = ParallelCorpus(
        path="p", sources=["7 red cat", "3 dog"], targets=["a", "b c d"], lines=[1, 2]
    )
    rows = encode_pairs(given, translator.tokenizer, max_length=32)
    ids = special_ids(translator.model, translator.tokenizer)
    batches = PairBatches(rows.sources, rows.targets, batch_tokens=10_000, seed=0, ids=ids)
    batch = batches.batch(batches.in_sequence()[0])
    assert (batch.source_ids[:, 0] == 0).all()
    assert ((batch.source_ids == 2).sum(1) == 1).all()
    assert (batch.target_ids[:, 0] == ids.start).all()
    assert (batch.labels == ids.end).sum() == 2
    assert (batch.labels == -1).any()
    assert batch.target_ids.max() < translator.model.vocab_size


@pytest.mark.slow
def test_the_commands_translate_align_and_continue(trained, pairs, tmp_path, capsys):
    folder, _ = trained
    assert main(["translate", str(folder), "7 red cat", "--align"]) == 0
    text, _ = capsys.readouterr().out.rstrip("\n").split("\t")
    assert text == load(folder).translate(["7 red cat"])[0]
    assert main(["info", str(folder)]) == 0
    assert main(["info", str(folder), "--diagram", "mermaid"]) == 0
    train(pairs, tmp_path / "more", settings=(f"start_from={folder}", "training.epochs=1"))
    assert isinstance(load(tmp_path / "more").tokenizer, SourceTargetTokenizer)


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bits(trained, roberta, gpt2, pairs, tmp_path):
    class CrashError(Exception):
        pass

    def crash(event):
        if isinstance(event, Saved) and event.step > 2:
            raise CrashError

    with pytest.raises(CrashError):
        train(pairs, tmp_path / "c", settings=(*SETTINGS, *sides(roberta, gpt2)), report=crash)
    resume(tmp_path / "c")
    ours, theirs = (ModelFolder(folder).read_weights() for folder in (tmp_path / "c", trained[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_decoder_alone_gives_its_vocabulary_to_both_sides(gpt2, pairs, tmp_path):
    small = tuple(f"model.encoder.{name}" for name in ("dim=16", "num_heads=2", "hidden_dim=32"))
    settings = (*SETTINGS, *small, "preset=tiny", f"fine_tuning.decoder={gpt2}")
    train(pairs, tmp_path / "m", settings=settings)
    translator = load(tmp_path / "m")
    source, target = split_tokenizer(translator.tokenizer)
    assert source is target
    end = target.eos_id
    # GPT-2 puts no token after a text, so none is after a source, here and in an export.
    assert special_ids(translator.model, target) == (0, end, end, None, -1, ())
    assert isinstance(translator.translate(["7 red cat"])[0], str)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Bert", "DistilBert"])
def test_word_pieces_read_for_byte_pairs(kind, gpt2, pairs, transformers, tmp_path):
    folder = tmp_path / "encoder"
    words = sorted({word for source, _ in toy_pairs(400) for word in source.split()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    sizes = {"vocab_size": len(pieces), "num_attention_heads": 2, "num_hidden_layers": 1}
    sizes |= {"hidden_size": 24, "intermediate_size": 32}
    if kind == "DistilBert":
        sizes = {"vocab_size": len(pieces), "n_heads": 2, "n_layers": 1, "dim": 24}
        sizes["hidden_dim"] = 32
    config = getattr(transformers, f"{kind}Config")(**sizes)
    getattr(transformers, f"{kind}ForMaskedLM")(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    train(pairs, tmp_path / "m", settings=(*SETTINGS, *sides(folder, gpt2)))
    translator = load(tmp_path / "m")
    ids = special_ids(translator.model, translator.tokenizer)
    assert (ids.pad, ids.end_of_source) == (0, 3)
    assert translator.model.config.source_rows == len(pieces)
    found = translator.align("7 red cat", "die katze")
    assert len(found.source_pieces) == 1 + len(translator.tokenizer.encode(["7 red cat"])[0])


@pytest.mark.slow
def test_logits_are_those_of_an_encoder_decoder_of_transformers(
    trained, roberta, gpt2, transformers
):
    peer: Any = transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(
        str(roberta), str(gpt2)
    ).eval()
    scale_up(peer)
    model = load(trained[0]).model
    assert isinstance(model, EncoderDecoderModel)
    fill(model, peer)
    source = torch.tensor([[0, 40, 60, 70, 2], [0, 99, 2, 1, 1]])
    target = torch.tensor([[3, 5, 7, 9], [3, 200, 0, 8]])
    with torch.inference_mode():
        ours = model(source, target)
        theirs = peer(
            input_ids=source, attention_mask=(source != 1).long(), decoder_input_ids=target
        ).logits
    assert (ours - theirs).abs().max() < 1e-4 * theirs.std()


def fill(model: EncoderDecoderModel, peer: Any) -> None:
    """Copy the weights of both sides and of what stands between them."""
    from regard.hub.hugging_face.name_mapping import to_local
    from regard.models import CHECKPOINT_FORMATS

    checkpoint_format = CHECKPOINT_FORMATS["roberta"]
    tensors = {f"roberta.{name}": tensor for name, tensor in peer.encoder.state_dict().items()}
    parameters = dict(model.encoder.named_parameters())
    for mapping in checkpoint_format.map_parameters(model.encoder.config):
        parameters[mapping.local].data.copy_(to_local(mapping, tensors))
    tensors, parameters = peer.decoder.state_dict(), dict(model.decoder.named_parameters())
    for mapping in CHECKPOINT_FORMATS["gpt2"].map_parameters(model.config.decoder):
        name = mapping.local.replace(".attention_residual.", ".self_residual.")
        parameters[name].data.copy_(to_local(mapping, tensors))
    for block, theirs in zip(model.decoder_blocks, peer.decoder.transformer.h, strict=True):
        copies = {
            block.cross_attention.query: theirs.crossattention.q_attn,
            block.cross_attention.key_value: theirs.crossattention.c_attn,
            block.cross_attention.output: theirs.crossattention.c_proj,
        }
        for ours, conv in copies.items():
            assert ours.bias is not None
            ours.weight.data.copy_(conv.weight.T)
            ours.bias.data.copy_(conv.bias)
        norm: Any = block.cross_residual.norm
        norm.weight.data.copy_(theirs.ln_cross_attn.weight)
        norm.bias.data.copy_(theirs.ln_cross_attn.bias)
