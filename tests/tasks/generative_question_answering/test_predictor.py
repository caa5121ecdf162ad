"""Published encoder-decoders that write answers, and exports of our own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.answers import draw_template, write_questions
from tests.conftest import TINY
from tests.tasks.translation.published_bart import BOS, EOS, bart_folder

import regard
from regard.__main__ import main
from regard.cli.answer import open_answerer
from regard.cli.model_options import WritingOptions
from regard.runs.export_check import export_model
from regard.runs.run import train
from regard.tasks.generative_question_answering.predictor import AnswerWriter

QUESTION, CONTEXT = "Who saw the dog?", "The old man saw the dog."


@pytest.mark.slow
def test_a_published_bart_writes_answers_with_its_own_probabilities(transformers, tmp_path, capsys):
    folder = bart_folder(transformers, tmp_path / "bart")
    writer = open_answerer(str(folder), WritingOptions(device="cpu"))
    assert isinstance(writer, AnswerWriter)
    theirs = transformers.BartForConditionalGeneration.from_pretrained(folder).eval()
    (output,) = writer.write_answers([QUESTION], [CONTEXT])
    question, context = writer.tokenizer.encode([QUESTION, CONTEXT])
    source = torch.tensor([[BOS, *question, EOS, *context, EOS]])
    with torch.inference_mode():
        logits = theirs(source, decoder_input_ids=torch.tensor([[EOS, BOS]])).logits[0]
    scores = logits.log_softmax(-1)
    expected = float(scores[0, BOS] + scores[1, EOS])
    assert output.log_null == pytest.approx(expected, abs=1e-3)
    assert output.text
    (tmp_path / "c.txt").write_text(CONTEXT)
    code = main(["answer", str(folder), QUESTION, "--context", str(tmp_path / "c.txt")])
    assert (code, capsys.readouterr().out.split("\t")[0]) == (0, output.text)


@pytest.mark.slow
def test_a_run_starts_from_a_published_bart(transformers, tmp_path):
    folder = bart_folder(transformers, tmp_path / "bart")
    data = write_questions(tmp_path / "q.jsonl", 60, 1, draw=draw_template)
    settings = (
        "qa.kind=generative",
        f"start_from={folder}",
        "training.epochs=1",
        "training.precision=float32",
        "data.max_length=30",
    )
    model: Any = train(data, tmp_path / "m", settings=settings)
    assert model.model.copy_head is None
    assert model.max_source_length == 58
    opened: Any = regard.load(tmp_path / "m")
    assert opened.answer(QUESTION, CONTEXT) == model.answer(QUESTION, CONTEXT)


@pytest.mark.slow
def test_an_exported_model_gives_the_same_answers(tmp_path, transformers):
    data = write_questions(tmp_path / "q.jsonl", 60, 1, draw=draw_template)
    settings = (
        *(text for text in TINY if "epochs" not in text),
        "training.epochs=1",
        "training.precision=float32",
        "qa.kind=generative",
        "model.has_copy=false",
        "model.separator_id=none",
        "model.positions=sinusoidal_halves",
        "model.norm=post",
    )
    model: Any = train(data, tmp_path / "m", settings=settings)
    exported = export_model(model, tmp_path / "hf")
    assert exported.texts.is_equal
    opened = open_answerer(str(tmp_path / "hf"), WritingOptions(device="cpu"))
    questions, contexts = [QUESTION, "Who?"], [CONTEXT, "Ada met Bob."]
    model.threshold = None
    for ours, theirs in zip(
        model.answer(questions, contexts), opened.answer(questions, contexts), strict=True
    ):
        assert theirs.answer == ours.answer
        assert theirs.probability == pytest.approx(ours.probability, rel=1e-4)
