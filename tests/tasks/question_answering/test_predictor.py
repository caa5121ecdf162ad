"""Published models of answers: the spans of `transformers` on real text, and going on from them."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.published_weights import spread
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

import regard
from regard.__main__ import main
from regard.errors import ConfigError, WeightsError
from regard.models import LongformerConfig
from regard.runs.export_check import export_model
from regard.runs.run import train
from regard.setup.pretrained import read_pretrained
from regard.setup.request import Request
from regard.tasks import task_named, task_of, task_of_published

WORDS = """the a of in when where who what red old small cat dog house tree river sees likes finds
paints ada bob rome oslo met later then because is was 1 2 3 . ? , - ##s ##ed ##ing read write
open"""
CONTEXT = (
    "Ada met Bob in Rome. Later Bob, the old dog, sees a tree-house! Then Ada paints the river "
    "because the cats likes it?\n\nWho reads in Oslo: 1 2 3, and writing opened. "
)
OFFSET = ("Roberta", "Longformer")
"""Kinds with a vocabulary of bytes, whose table of positions begins two rows before the text."""
QUESTIONS = ("Who met Bob?", "Where is the small house of Ada, in 2?")


def word_piece_folder(folder: Path) -> None:
    """Write a vocabulary of BERT."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary += [*letters, *(f"##{letter}" for letter in letters)]
    vocabulary = list(dict.fromkeys(vocabulary))
    backend = Backend(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(vocabulary[:5])
    backend.save(str(folder / "tokenizer.json"))


def byte_level_folder(folder: Path) -> None:
    """Write a vocabulary of RoBERTa: bytes alone."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet]
    backend = Backend(models.BPE({w: i for i, w in enumerate(vocabulary)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    backend.add_special_tokens(vocabulary[:5])
    backend.save(str(folder / "tokenizer.json"))


def published(transformers, kind: str, folder: Path, head: str = "ForQuestionAnswering") -> Any:
    """Write a model with large random weights; return it as `transformers` opens it."""
    folder.mkdir(exist_ok=True)
    (byte_level_folder if kind in OFFSET else word_piece_folder)(folder)
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "intermediate_size": 20,
        "max_position_embeddings": 128 + 2 * (kind in OFFSET),
        "vocab_size": 300,
    }
    if kind == "DistilBert":
        sizes = {"dim": 24, "n_heads": 2, "n_layers": 2, "hidden_dim": 20, "vocab_size": 300}
        sizes["max_position_embeddings"] = 128
    if kind in OFFSET:
        sizes |= {"type_vocab_size": 1, "pad_token_id": 1}
    if kind == "ModernBert":
        ids = {"pad": 0, "bos": 2, "eos": 3, "cls": 2, "sep": 3}
        sizes |= {f"{role}_token_id": number for role, number in ids.items()}
        sizes |= {"local_attention": 8}
    if kind == "Longformer":
        sizes |= {"attention_window": [8, 16], "sep_token_id": 2}
    model = getattr(transformers, f"{kind}{head}")(getattr(transformers, f"{kind}Config")(**sizes))
    spread(model, gain=1.0)
    model.save_pretrained(folder)
    return model.eval()


def their_answer(
    transformers, folder: Path, model: Any, question: str, context: str, *, window: int, most: int
) -> tuple[str, float]:
    """Find the best span by the rules of the question-answering pipeline of `transformers` 4.

    Windows by its tokenizer; a softmax over the tokens of the context and the first token; the
    product of both probabilities, over spans of at most some tokens, the best of all windows.
    """
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    encoded = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=window,
        stride=24,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    best = ("", -1.0)
    for index in range(len(encoded["input_ids"])):
        inputs = {"input_ids": torch.tensor([encoded["input_ids"][index]])}
        if model.config.model_type == "bert":
            inputs["token_type_ids"] = torch.tensor([encoded["token_type_ids"][index]])
        with torch.no_grad():
            output = model(**inputs)
        is_context = [number == 1 for number in encoded.sequence_ids(index)]
        allowed = torch.tensor([True, *is_context[1:]])
        start, end = (
            logits[0].masked_fill(~allowed, -math.inf).softmax(0)
            for logits in (output.start_logits, output.end_logits)
        )
        for first in range(len(is_context)):
            for last in range(first, min(first + most, len(is_context))):
                score = float(start[first] * end[last])
                if is_context[first] and is_context[last] and score > best[1]:
                    offsets = encoded["offset_mapping"][index]
                    best = (context[offsets[first][0] : offsets[last][1]], score)
    return best


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Roberta", "Longformer", "ModernBert"])
def test_published_heads_give_the_spans_of_transformers(kind, transformers, tmp_path):
    model = published(transformers, kind, tmp_path / "hf")
    opened: Any = regard.load(tmp_path / "hf")
    assert opened.config.task == "question-answering"
    assert not opened.config.qa.match_words
    assert opened.max_length == model.config.max_position_embeddings - 2 * (kind in OFFSET)
    opened.config = regard_settings(opened.config, overlap=24, max_answer_tokens=12)
    contexts = [CONTEXT, CONTEXT * 4]
    for context in contexts:
        for question in QUESTIONS:
            expected, score = their_answer(
                transformers,
                tmp_path / "hf",
                model,
                question,
                context,
                window=opened.max_length,
                most=12,
            )
            found = opened.answer(question, context)
            assert found.answer == expected.strip()
            assert context[found.start : found.end] == found.answer
            assert found.probability == pytest.approx(score, rel=1e-3)


def test_the_end_of_a_question_that_is_not_read_is_named(transformers, tmp_path, capsys):
    published(transformers, "Bert", tmp_path / "hf")
    opened: Any = regard.load(tmp_path / "hf")
    (tmp_path / "context.txt").write_text(CONTEXT)
    long = "Who met Bob? " * 20  # four tokens each; 62 of 128 are left for a question
    results = opened.answer(["Who met Bob?", long], CONTEXT)
    assert [result.question_truncated for result in results] == [0, 80 - 62]
    command = ["answer", str(tmp_path / "hf"), long, "--context", str(tmp_path / "context.txt")]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["question_truncated"] == 18
    assert "1 question is longer than the model reads: the rest was cut off" in captured.err


def regard_settings(config: Any, **changes: int) -> Any:
    """Return settings of a run with others of questions and answers."""
    import msgspec

    return msgspec.structs.replace(config, qa=msgspec.structs.replace(config.qa, **changes))


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Roberta", "Longformer", "ModernBert"])
def test_a_published_head_goes_out_as_it_came(kind, transformers, tmp_path):
    published(transformers, kind, tmp_path / "hf")
    opened = regard.load(tmp_path / "hf")
    texts = [CONTEXT, "Rome is old.", "Where the river is, Bob paints the tree."]
    exported = export_model(opened, tmp_path / "out", texts=texts)
    assert exported.model_type == kind.lower()
    assert exported.difference < 1e-5 * exported.scale
    assert exported.peer_difference is not None
    assert exported.peer_difference < 1e-4 * exported.scale
    assert exported.texts.is_equal, exported.texts


@pytest.mark.slow
def test_a_model_of_a_run_goes_out_with_its_vocabulary(transformers, tmp_path):
    rows = [
        {"context": f"{n} Ada met Bob in {p}.", "question": f"Where is {n}?", "answers": [p]}
        for n, p in enumerate(["Rome", "Oslo", "Lima", "Bonn"] * 8)
    ]
    settings = (
        "model.num_layers=1",
        "model.dim=16",
        "model.num_heads=2",
        "model.hidden_dim=16",
        "model.norm=post",
        "model.epsilon=1e-12",
        "model.num_segments=2",
        "model.max_positions=64",
        "training.epochs=1",
        "training.precision=float32",
        "qa.match_words=false",
    )
    with pytest.raises(ConfigError, match=r"qa.match_words=true: published models do not"):
        told: Any = train(
            None,
            tmp_path / "told",
            settings=(*settings[:4], "training.epochs=1"),
            sources={"path": regard_rows(rows)},
        )
        export_model(told, tmp_path / "no")
    sources = {"path": regard_rows(rows)}
    trained: Any = train(
        None, tmp_path / "out", settings=(*settings, "model.rotary_base=none"), sources=sources
    )
    exported = export_model(trained, tmp_path / "hf", texts=[row["context"] for row in rows[:5]])
    assert exported.texts.is_equal, exported.texts
    assert exported.texts.num_texts == 5
    opened: Any = regard.load(tmp_path / "hf")
    question, context = rows[0]["question"], rows[0]["context"]
    trained.threshold = None
    assert opened.answer(question, context).start == trained.answer(question, context).start


def test_a_head_without_its_tensor_is_missing(transformers, tmp_path):
    published(transformers, "Bert", tmp_path, head="Model")
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("BertModel", "BertForQuestionAnswering"))
    with pytest.raises(WeightsError, match=r"qa_outputs.weight is missing"):
        regard.load(tmp_path)


def test_rows_of_longformer_with_questions_of_several_lengths_are_those_of_transformers(
    transformers, tmp_path
):
    theirs = published(transformers, "Longformer", tmp_path)
    ours: Any = regard.load(tmp_path).model
    rows = torch.randint(5, 250, (4, 40), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([40, 31, 40, 22])
    for row, (length, asked) in enumerate(zip(lengths.tolist(), (3, 9, 1, 3), strict=True)):
        rows[row, [asked, asked + 1, length - 1]] = 2
        rows[row, length:] = 1
    with torch.inference_mode():
        outputs = theirs(rows, attention_mask=(rows != 1).long())
        logits = ours(rows, lengths=lengths)  # [batch, length, 2]
    expected = torch.stack([outputs.start_logits, outputs.end_logits], 2)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(logits[row, :length], expected[row, :length], rtol=0, atol=1e-4)
    # Outside of questions nothing is left of their number of global tokens.
    assert {layer.num_global for layer in ours.encoder.global_layers} == {0}


def test_a_longformer_of_answers_starts_a_classifier_of_single_texts(transformers, tmp_path):
    published(transformers, "Longformer", tmp_path)
    for name in ("classification", "masked-language-modeling"):
        request = Request.parse([f"start_from={tmp_path}"])
        pretrained = read_pretrained(request, task_named(name), task_of, task_of_published)
        assert pretrained is not None
        model = pretrained.config.model
        assert isinstance(model, LongformerConfig)
        assert (model.question_end_id, model.num_global) == (None, 0)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["Model", "ForQuestionAnswering"])
def test_a_run_begins_with_the_weights_of_a_published_encoder(head, transformers, tmp_path):
    model = published(transformers, "Bert", tmp_path / "hf", head=head)
    draw = random.Random(1)
    rows = []
    for number in range(40):
        name, place = draw.choice(["Ada", "Bob"]), draw.choice(["Rome", "Oslo"])
        context = f"{number} {name} met the cat in {place}."
        rows.append({"context": context, "question": f"Where is {name}?", "answers": [place]})
    trained: Any = train(
        None,
        tmp_path / "out",
        settings=(
            f"start_from={tmp_path / 'hf'}",
            "training.epochs=1",
            "training.precision=float32",
            "training.average=0",
            "optimizer.learning_rate=1e-12",
            "data.max_length=64",
        ),
        sources={"path": regard_rows(rows)},
    )
    ours = trained.model.encoder.blocks[0].feed_forward.inner.weight
    theirs = model.base_model.encoder.layer[0].intermediate.dense.weight
    torch.testing.assert_close(ours, theirs)
    has_head = head == "ForQuestionAnswering"
    assert (trained.model.roles is None) == has_head
    if has_head:
        torch.testing.assert_close(trained.model.output_weight, model.qa_outputs.weight)


def regard_rows(rows: list[dict[str, Any]]) -> Any:
    """Return rows in memory as data."""
    from regard.data.readers.memory import source_of_rows

    return source_of_rows(rows)
