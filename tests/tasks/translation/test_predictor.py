"""A trained model in use: order, empty and long lines, n-best, alignment, damaged folders."""

import warnings

import msgspec
import pytest
import torch

import regard
from regard import load
from regard.cli.wording import error_text
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import ConfigError, WeightsError
from regard.hub.model_folder import ModelFolder
from regard.models.transformer.model import Transformer
from regard.runs.information import inspect_folder
from regard.tasks.sequence_to_sequence.predictor import Alignment, Candidate

SENTENCES = [
    "3 red cat sees the dog",
    "",
    "17 old tree likes the river",
    "5 small dog finds the cat",
]


@pytest.fixture(scope="module")
def translator(trained):
    return load(trained)


def test_load_gives_a_module_whose_logits_have_the_vocabulary(trained):
    loaded = regard.load(trained)
    assert isinstance(loaded.model, torch.nn.Module)
    logits = loaded.model(torch.tensor([[5, 6, 2]]), torch.tensor([[1, 7]]))
    assert logits.shape == (1, 2, len(loaded.tokenizer))


def test_order_is_kept_and_an_empty_line_stays_empty(translator):
    together = translator.translate(SENTENCES, beam=2)
    assert together[1] == ""
    assert together == [translator.translate([text], beam=2)[0] for text in SENTENCES]


def test_a_stream_gives_what_translating_at_once_gives(translator, monkeypatch):
    monkeypatch.setattr("regard.tasks.translation.predictor._STREAMED_LINES", 3)
    lines = SENTENCES * 3
    streamed = [found[0].text for _, found in translator.stream(iter(lines), beam=1)]
    assert streamed == translator.translate(lines, beam=1)


def test_a_stream_reads_no_further_ahead_than_a_chunk(translator, monkeypatch):
    monkeypatch.setattr("regard.tasks.translation.predictor._STREAMED_LINES", 2)
    taken = []

    def lines():
        for text in SENTENCES * 5:
            taken.append(text)
            yield text

    next(translator.stream(lines(), beam=1))
    assert len(taken) == 2


def test_several_best_translations_come_best_first(translator):
    (found,) = translator.translate_best(SENTENCES[:1], beam=4, nbest=3)
    assert len(found) == 3
    assert [t.score for t in found] == sorted((t.score for t in found), reverse=True)
    assert all(0 <= t.confidence <= 1 for t in found)
    with pytest.raises(ConfigError, match="`translate_best` returns several"):
        translator.translate(SENTENCES[0], beam=4, nbest=3)


def write_nothing_for_cats(translator):
    """Return a `write` whose outputs are empty where the source has a cat."""

    def write(rows, config):
        texts = ["" if "cat" in t else "ein Baum" for t in translator.tokenizer.decode(rows)]
        return [[Candidate(text=t, score=-1.0, confidence=0.5, is_complete=True)] for t in texts]

    return write


def test_an_empty_translation_is_noted_with_its_line(trained, monkeypatch):
    translator = load(trained)
    monkeypatch.setattr(translator, "write", write_nothing_for_cats(translator))
    message = "lines 1, 4: the model writes nothing.  At least one token: `min_length=2`"
    with pytest.warns(UserWarning) as caught:
        assert translator.translate(SENTENCES) == ["", "ein Baum", "ein Baum", ""]
    assert [str(warning.message) for warning in caught] == [message]
    with pytest.warns(UserWarning, match="^line 1: the model writes nothing"):
        assert translator.translate("a cat") == ""


def test_the_lines_of_a_stream_are_counted_over_all_of_its_chunks(trained, monkeypatch):
    translator = load(trained)
    monkeypatch.setattr("regard.tasks.translation.predictor._STREAMED_LINES", 2)
    monkeypatch.setattr(translator, "write", write_nothing_for_cats(translator))
    with pytest.warns(UserWarning, match="^lines 1, 4, 5 and 1 more: ") as caught:
        assert len(list(translator.stream(iter(SENTENCES * 2)))) == 8
    assert len(caught) == 1


@pytest.mark.parametrize("text", [" ".join(SENTENCES[:1] * 200), "ä" * 2000, "x " * 10])
def test_a_line_longer_than_the_model_was_trained_on_is_translated_in_parts(
    trained, monkeypatch, text
):
    translator = load(trained)
    seen = []

    def echo(rows, config):
        seen.extend(rows)
        return [
            [Candidate(text=t, score=0.0, confidence=1.0, is_complete=True)]
            for t in translator.tokenizer.decode(rows)
        ]

    monkeypatch.setattr(translator, "write", echo)
    (found,) = translator.translate([text])
    assert found.replace(" ", "") == text.replace(" ", "")
    assert max(len(row) for row in seen) <= translator.config.data.max_length
    assert len(seen) == 1 or len(text) > 1000


@pytest.mark.parametrize("space", [" ", ""])
def test_every_part_of_a_line_begins_with_the_tag_of_the_line(trained, monkeypatch, space):
    translator = load(trained)
    tagged = TokenizerConfig(vocab_size=300, tags=("<de>", "<fr>"))
    monkeypatch.setattr(translator, "tokenizer", Tokenizer.train(SENTENCES, tagged))
    line = f"<fr>{space}" + " ".join(SENTENCES[:1] * 200)
    parts = translator._split(line)
    assert len(parts) > 1
    assert all(part.startswith(f"<fr>{space}") and part[4 + len(space)] != " " for part in parts)
    longest = max(map(len, translator.tokenizer.encode(parts)))
    assert longest <= translator.config.data.max_length


def test_a_placeholder_that_begins_a_long_line_is_in_its_translation_once(trained, monkeypatch):
    translator = load(trained)
    tagged = TokenizerConfig(vocab_size=300, tags=("<de>", "<num>"))
    monkeypatch.setattr(translator, "tokenizer", Tokenizer.train(SENTENCES, tagged))
    prefix = ""

    def copy(rows, config):
        texts = (prefix + text for text in translator.tokenizer.decode(rows))
        return [
            [Candidate(text=text, score=0.0, confidence=1.0, is_complete=True)] for text in texts
        ]

    monkeypatch.setattr(translator, "write", copy)
    line = "<num> red cats " + "see <num> dogs " * 100
    assert len(translator._split(line)) > 1
    assert translator.translate(line).split() == line.split()
    prefix = "rot "  # also where the placeholder is not the first word of an output
    assert translator.translate(line).count("<num>") == line.count("<num>")


def test_a_tag_that_the_model_does_not_have_is_noted(trained, monkeypatch):
    translator = load(trained)
    tagged = TokenizerConfig(vocab_size=300, tags=("<de>", "<mask>", "<fr>"))
    monkeypatch.setattr(translator, "tokenizer", Tokenizer.train(SENTENCES, tagged))
    config = msgspec.structs.replace(translator.config, tokenizer=tagged)
    monkeypatch.setattr(translator, "config", config)
    monkeypatch.setattr(translator, "write", lambda rows, config: [[] for _ in rows])
    message = r"<es> is read as text\.  The tags of this model: <de>, <fr>\."
    with pytest.warns(UserWarning, match=message):
        translator.translate_best(["<de> 3 red cats", "<es> 3 red cats"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        translator.translate_best(["<de> 3 red cats", " <fr> a dog", "<fr>a dog", "", "3 cats"])


@pytest.mark.parametrize(("languages", "is_noted"), [("en-de,fr", True), ("en-de", False)])
def test_a_text_without_a_tag_is_noted_where_tags_say_the_language(
    trained, monkeypatch, languages, is_noted
):
    translator = load(trained)
    tagged = TokenizerConfig(vocab_size=300, tags=("<de>", "<fr>"))
    monkeypatch.setattr(translator, "tokenizer", Tokenizer.train(SENTENCES, tagged))
    data = msgspec.structs.replace(translator.config.data, languages=languages)
    config = msgspec.structs.replace(translator.config, tokenizer=tagged, data=data)
    monkeypatch.setattr(translator, "config", config)
    monkeypatch.setattr(translator, "write", lambda rows, config: [[] for _ in rows])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        translator.translate_best(["<de> 3 red cats", "", " "])
        assert not caught
        translator.translate_best(["3 red cats", "a dog"])
    notes = [
        "a text without a tag does not say which language is to be written.  "
        "The tags of this model: <de>, <fr>."
    ]
    assert [str(warning.message) for warning in caught] == (notes if is_noted else [])


def test_a_text_that_fits_is_read_whole_however_long_its_words_are(translator, monkeypatch):
    word = "".join(SENTENCES[0].split())
    (row,) = translator.tokenizer.encode([word])
    pieces = [word[start : start + 1] for start in range(len(word))]
    assert sum(map(len, translator.tokenizer.encode(pieces))) > len(row)
    data = msgspec.structs.replace(translator.config.data, max_length=len(row))
    config = msgspec.structs.replace(translator.config, data=data)
    monkeypatch.setattr(translator, "config", config)
    assert translator._split(word) == [word]
    data = msgspec.structs.replace(data, max_length=len(row) - 1)
    monkeypatch.setattr(translator, "config", msgspec.structs.replace(config, data=data))
    assert len(translator._split(word)) > 1


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (None, "a", "source[0]: a text was expected, not NoneType."),
        ("a", ["b"], "target[0]: a text was expected, not list."),
    ],
)
def test_what_is_no_text_is_not_aligned(translator, source, target, message):
    with pytest.raises(ConfigError) as error:
        translator.align(source, target)
    assert str(error.value) == message


def test_alignment_rows_sum_to_one_and_words_are_in_range(translator):
    target = "3 Katze rot sieht Hund"
    alignment = translator.align(SENTENCES[0], target)
    assert len(alignment.weights) == len(alignment.target_pieces)
    for row in alignment.weights:
        assert len(row) == len(alignment.source_pieces)
        assert sum(row) == pytest.approx(1, abs=1e-5)
    words = alignment.words()
    assert [t for _, t in words] == list(range(len(target.split())))
    assert all(0 <= s < len(SENTENCES[0].split()) for s, _ in words)


def test_words_are_paired_by_the_mass_of_their_pieces():
    alignment = Alignment(
        source_pieces=[" a", "b", " c", "</s>"],
        target_pieces=[" x", " y", "</s>"],
        weights=[[0.3, 0.3, 0.4, 0.0], [0.1, 0.1, 0.7, 0.1], [0, 0, 0, 1]],
    )
    assert alignment.words() == [(0, 0), (1, 1)]


def test_a_beam_of_zero_is_refused(translator):
    with pytest.raises(ConfigError, match="`beam` must be 1 or more, not 0"):
        translator.translate(["x"], beam=0)


def test_a_folder_that_is_not_there_is_reported_with_what_to_do(tmp_path):
    with pytest.raises(WeightsError) as raised:
        regard.load(tmp_path / "nothing")
    path = tmp_path / "nothing"
    assert error_text(raised.value) == (
        f"{path}: no such folder.  Train one: regard train pairs.tsv -o {path}"
    )


def test_a_missing_tensor_is_named_with_the_number_found(trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    tensors = folder.read_weights()
    count = len(tensors)
    del tensors["encoder.0.feed_forward.inner.weight"]
    folder.write_weights(tensors)
    with pytest.raises(WeightsError) as raised:
        load(folder.path)
    assert error_text(raised.value) == (
        f"{folder.weights_path}: tensor encoder.0.feed_forward.inner.weight is missing "
        f"({count - 1} of {count} found)."
    )


def test_a_tensor_of_another_shape_is_named(trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    tensors = folder.read_weights()
    tensors["encoder_norm.weight"] = torch.ones(3)
    folder.write_weights(tensors)
    with pytest.raises(
        WeightsError, match=r"encoder_norm.weight has shape \[3\], config.toml says \[16\]"
    ):
        load(folder.path)


def copy_of(trained, tmp_path):
    folder = ModelFolder(tmp_path / "copy")
    folder.create()
    for name in ("config.toml", "tokenizer.json", "model.safetensors"):
        (folder.path / name).write_bytes((trained / name).read_bytes())
    return folder


def test_info_counts_what_the_model_has(trained):
    found = inspect_folder(trained)[0]
    translator = load(trained)
    assert isinstance(translator.model, Transformer)
    assert found.num_parameters == sum(p.numel() for p in translator.model.parameters())
    assert found.is_finished
    last = ModelFolder(trained).read_metrics()[-1]
    assert (found.figures["test chrf"], found.step) == (last["test"]["chrf"], last["step"])
