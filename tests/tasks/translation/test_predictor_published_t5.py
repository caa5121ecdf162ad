"""Published T5 models write what `transformers` writes, by the tasks of their folder."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from msgspec.structs import replace
from tests.tasks.translation.published_pairs import SETTINGS, TEXTS, write_pairs
from tests.tasks.translation.published_t5 import TASKS, t5_folder

import regard
from regard.__main__ import main
from regard.errors import ConfigError
from regard.hub.hugging_face.generation_rules import read_generation_rules
from regard.runs.export_check import export_model
from regard.runs.run import train
from regard.tasks.published_task import task_of_languages
from regard.tasks.summarization.predictor import Summarizer

LONG = " ".join(TEXTS * 12)


@pytest.fixture(scope="module")
def t5(transformers, tmp_path_factory):
    """A published folder."""
    return t5_folder(transformers, tmp_path_factory.mktemp("hf") / "t5")


def peer_texts(transformers, folder, texts, task) -> list[str]:
    """Write by `transformers`, with the search and the prefix of a task."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    options = dict(TASKS[task])
    prefix = options.pop("prefix")
    outputs = []
    for text in texts:
        rows = tokenizer(prefix + text, return_tensors="pt")
        unused = [[token] for token in range(len(tokenizer), model.config.vocab_size)]
        output = model.generate(**rows, bad_words_ids=unused, **options)
        outputs.append(tokenizer.decode(output[0], skip_special_tokens=True))
    return outputs


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* the model writes nothing:UserWarning")
def test_an_evaluation_has_the_task_of_its_languages(t5, tmp_path):
    pairs = write_pairs(tmp_path / "pairs.tsv")
    sources = [line.split("\t")[0] for line in pairs.read_text(encoding="utf-8").splitlines()]
    report = regard.evaluate(t5, pairs, lang="en-de", worst=len(sources))
    outputs = {worst.source: worst.output for worst in report.worst}
    translator = regard.load(t5, task="translation_en_to_de")
    expected = [row[0].text for row in translator.translate_best(sources)]
    assert [outputs[source] for source in sources] == expected


def test_languages_that_a_folder_does_not_translate_are_refused(t5):
    with pytest.raises(ConfigError, match=r"`lang=en-ru`: .* translates en-de, en-fr\.$"):
        task_of_languages(t5, "en-ru")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:lines 1.* cut off at")
def test_a_translation_is_that_of_generate_with_the_prefix_of_the_task(t5, transformers):
    translator = regard.load(t5, task="translation_en_to_de")
    wanted = peer_texts(transformers, t5, TEXTS, "translation_en_to_de")
    assert translator.translate(TEXTS) == wanted
    assert translator.config.data.languages == "en-de"


@pytest.mark.slow
def test_a_summary_of_a_long_text_is_that_of_generate(t5, transformers):
    texts = [*TEXTS[:2], LONG]
    summarizer = regard.load(t5, task="summarization")
    assert isinstance(summarizer, Summarizer)
    assert summarizer.summarize(texts) == peer_texts(transformers, t5, texts, "summarization")
    assert len(summarizer.encode_sources([LONG])[0]) > 128


def test_several_prefixes_leave_texts_as_they_are_and_a_line_says_so(t5):
    with pytest.warns(UserWarning, match="name the task: summarization, translation_en_to_de"):
        translator = regard.load(t5)
    assert translator.encode_sources(TEXTS) == translator.tokenizer.encode(TEXTS)
    assert translator.config.search.max_length is None


def test_one_translation_of_a_folder_is_the_task(t5, tmp_path):
    folder = shutil.copytree(t5, tmp_path / "one")
    fields = json.loads((folder / "config.json").read_text())
    del fields["task_specific_params"]["translation_en_to_fr"]
    (folder / "config.json").write_text(json.dumps(fields))
    translator = regard.load(folder)
    assert translator.config.data.source_prefix == "die Katze: "
    assert translator.config.search.beam == 2


@pytest.mark.filterwarnings("ignore:line 1.* cut off at")
def test_a_prefix_is_put_once_and_before_every_part_of_a_long_text(t5):
    translator = regard.load(t5, task="translation_en_to_de")
    (row, same) = translator.encode_sources(["dog", "die Katze: dog"])
    assert row == same
    data = replace(translator.config.data, max_length=24)
    translator.config = replace(translator.config, data=data)
    written: list[list[int]] = []
    write = translator.write
    translator.write = lambda rows, search: written.extend(rows) or write(rows, search)
    translator.translate([LONG])
    prefix = translator.tokenizer.encode([data.source_prefix])[0]
    assert len(written) > 3
    assert all(part[: len(prefix)] == prefix and len(part) <= 24 for part in written)


def test_a_task_that_a_folder_does_not_have_is_refused_by_name(t5):
    with pytest.raises(ConfigError, match=r"has no translation_en_to_it\.  It has summarization, "):
        regard.load(t5, task="translation_en_to_it")
    with pytest.raises(ConfigError, match="does not classify: it writes text for text"):
        regard.load(t5, task="classification")


def test_a_search_of_a_task_that_is_not_computed_is_refused(t5, tmp_path):
    folder = shutil.copytree(t5, tmp_path / "sampled")
    fields = json.loads((folder / "config.json").read_text())
    fields["task_specific_params"]["summarization"]["do_sample"] = True
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match="do_sample=true: no search here does that"):
        regard.load(folder, task="summarization")
    fields["task_specific_params"] = {"summarization": {"prefix": 5}}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match="an object for each task was expected"):
        regard.load(folder, task="summarization")


def test_no_end_is_forced_at_the_limit_by_an_old_folder(t5, tmp_path):
    folder = shutil.copytree(t5, tmp_path / "old")
    (folder / "generation_config.json").unlink()
    assert not read_generation_rules(folder).has_end


@pytest.mark.filterwarnings("ignore:line 1.* cut off at")
def test_the_verbs_choose_the_task(t5, capsys):
    assert main(["translate", str(t5), TEXTS[0], "--lang", "en-de"]) == 0
    assert main(["summarize", str(t5), TEXTS[0]]) == 0
    translation, summary = capsys.readouterr().out.splitlines()
    assert translation == regard.load(t5, task="translation_en_to_de").translate(TEXTS[0])
    assert summary == regard.load(t5, task="summarization").summarize(TEXTS[0])
    assert main(["translate", str(t5), TEXTS[0], "--lang", "en-it"]) == 2
    assert "--lang en-it: " in capsys.readouterr().err


def test_sentinels_are_tokens_and_their_order_is_reversed(t5, transformers):
    texts = ["the <extra_id_0> sees <extra_id_1>.", "<extra_id_4>", "a<extra_id_0>b", "cat"]
    tokenizer = regard.load(t5, task="summarization").tokenizer
    peer = transformers.AutoTokenizer.from_pretrained(t5)
    rows = tokenizer.encode(texts, adds_specials=True)
    assert rows == peer(texts).input_ids
    assert tokenizer.token_string(rows[1][0]) == "<extra_id_4>"
    assert max(rows[0]) - rows[1][0] == 4
    assert tokenizer.decode(rows) == peer.batch_decode(rows, skip_special_tokens=True)


@pytest.mark.slow
def test_fine_tuning_learns_with_the_prefix_which_an_export_names(t5, tmp_path):
    pairs = write_pairs(tmp_path / "pairs.tsv")
    run = tmp_path / "run"
    translator = train(str(pairs), run, settings=[*SETTINGS, f"start_from={t5}"])
    assert translator.config.data.source_prefix == "die Katze: "
    assert regard.load(run).translate(TEXTS) == translator.translate(TEXTS)
    exported = export_model(translator, tmp_path / "hf", texts=TEXTS)
    assert exported.texts.is_equal
    assert exported.model_type == "t5"
    again = regard.load(tmp_path / "hf")
    assert again.translate(TEXTS) == translator.translate(TEXTS)
    for name, weight in translator.model.named_parameters():
        assert torch.equal(again.model.get_parameter(name), weight.detach())
