"""Published classifiers of texts: equal logits in both directions, labels, refusals, going on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.published_weights import padded_ids, spread
from tests.setup.test_pretrained import write_reviews

import regard
from regard.__main__ import main
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import ConfigError
from regard.hub.hugging_face.published_folder import read_hugging_face
from regard.hub.hugging_face.published_tokenizer import vocabulary_files
from regard.layers.attention_config import AttentionConfig
from regard.models import CHECKPOINT_FORMATS, BertConfig, Classifier, make_model
from regard.runs.export_check import export_model
from regard.runs.run import resume, train
from regard.setup.config import DataConfig, RunConfig
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.training.events import Saved, Started

KINDS = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "longformer", "modernbert")
LABELS = ("joy", "anger", "fear")
SETTINGS = ("training.epochs=1", "training.precision=float32", "data.max_length=32")


def load(folder: Path) -> Any:
    """Open a folder, whatever is in it."""
    return regard.load(folder)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = ["7 red cat sees the tree", "7 old dog likes the tree"] * 3
    return Tokenizer.train(texts, TokenizerConfig(kind="byte"))


def published(transformers, kind: str, folder: Path, *, seed: int, labels=LABELS, vocab=50) -> Path:
    """Write a classifier of drawn sizes, with weights so large that every part shows."""
    draw = random.Random(seed)
    heads, layers = draw.choice([1, 2, 4]), draw.choice([1, 2, 3])
    dim, hidden_dim = heads * draw.choice([6, 8]), draw.choice([12, 20])
    activation = draw.choice(["gelu", "relu", "gelu_new"])
    common = {
        "vocab_size": vocab,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    if kind == "distilbert":
        sizes = {
            "dim": dim,
            "n_heads": heads,
            "n_layers": layers,
            "hidden_dim": hidden_dim,
            "activation": activation,
        }
    else:
        sizes = {
            "hidden_size": dim,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "intermediate_size": hidden_dim,
            "hidden_act": activation,
            "layer_norm_eps": draw.choice([1e-12, 1e-5]),
        }
    if kind == "longformer":
        sizes |= {"attention_window": 8}
    if kind == "modernbert":
        sizes |= {"local_attention": 4, "hidden_activation": draw.choice(["gelu", "silu"])}
        sizes |= {"classifier_pooling": draw.choice(["cls", "mean"]), "norm_bias": seed > 1}
        ids = ("pad", "bos", "eos", "cls", "sep")
        sizes |= {f"{role}_token_id": number for number, role in enumerate(ids)}
    if kind == "electra":
        sizes |= {"embedding_size": draw.choice([7, 20])}
    names = {"distilbert": "DistilBert", "xlm-roberta": "XLMRoberta", "modernbert": "ModernBert"}
    name = names.get(kind, kind.capitalize())
    config = getattr(transformers, f"{name}Config")(**common, **sizes)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
    spread(model)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def their_logits(transformers, folder: Path, ids: torch.Tensor, pad_id: int) -> torch.Tensor:
    kind = transformers.AutoModelForSequenceClassification
    theirs, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return theirs.eval()(input_ids=ids, attention_mask=(ids != pad_id).long()).logits


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.std())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_a_published_classifier_has_its_logits_here_and_goes_out_with_them(
    kind, seed, transformers, tmp_path
):
    published(transformers, kind, tmp_path / "hf", seed=seed)
    opened = load(tmp_path / "hf")
    assert isinstance(opened, TextClassifier)
    assert opened.labels == LABELS
    pad_id = opened.model.encoder.config.pad_id
    ids = padded_ids(50, (11, 4, 8), pad_id)
    with torch.no_grad():
        ours = opened.model(ids)
    assert_near(ours, their_logits(transformers, tmp_path / "hf", ids, pad_id))
    found = export_model(opened, tmp_path / "out")
    assert found.model_type == kind
    assert found.difference < 1e-5 * found.scale
    assert found.peer_difference is not None
    assert_near(ours, their_logits(transformers, tmp_path / "out", ids, pad_id))
    assert load(tmp_path / "out").labels == LABELS


def short_classifier(tokenizer):
    """Return a classifier that reads 12 tokens."""
    torch.manual_seed(0)
    encoder = BertConfig(dim=8, num_heads=2, num_layers=1, hidden_dim=8, max_positions=12)
    model = make_model(encoder, len(tokenizer), AttentionConfig())
    config = RunConfig(data=DataConfig(labels=LABELS, max_length=12))
    return TextClassifier(Classifier(model, len(LABELS)), tokenizer, config)


def test_the_end_of_a_text_that_is_not_read_is_named(tokenizer):
    opened = short_classifier(tokenizer)
    whole = "7 old dog"  # nine bytes and the space before them, then the end
    assert len(tokenizer.encode_truncated([whole], max_length=99)[0]) == 11
    with pytest.warns(match="^1 of 3 texts is longer than 12 tokens: the rest was cut off"):
        results = opened.classify([whole, f"{whole}s", f"{whole}s runs"])
    assert [result.truncated for result in results] == [0, 0, 5]
    assert "truncated" not in json.loads(msgspec.json.encode(results[1]))


def test_blank_texts_have_no_label_and_are_named(tokenizer):
    opened = short_classifier(tokenizer)
    with pytest.warns(match="^texts 2-3: blank, so without a label"):
        results = opened.classify(["7 dog", "", " "])
    with pytest.warns(match="^lines 2-3: blank, so without a label"):
        streamed = [result for _, result in opened.stream(["7 dog", "", " "])]
    assert streamed == results
    assert [(entry.label, len(entry.probabilities)) for entry in results[1:]] == [("", 0)] * 2
    with pytest.warns(match="^text 1: blank"):
        assert opened.classify("") == results[1]


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_transformers_would_make_up_are_made_up(kind, transformers, tmp_path):
    folder = published(transformers, kind, tmp_path, seed=1, labels=("LABEL_0", "LABEL_1"))
    assert "id2label" not in json.loads((folder / "config.json").read_text())
    assert load(folder).labels == ("LABEL_0", "LABEL_1")


def test_a_pooler_that_old_files_have_beside_is_left_alone(transformers, tmp_path):
    folder = published(transformers, "roberta", tmp_path, seed=2)
    before = read_hugging_face(folder).tensors()
    path = folder / "model.safetensors"
    tensors = load_file(path)
    dim = len(tensors["classifier.dense.bias"])
    tensors |= {
        "roberta.pooler.dense.weight": torch.ones(dim, dim),
        "roberta.pooler.dense.bias": torch.ones(dim),
    }
    save_file(tensors, path, {"format": "pt"})
    after = read_hugging_face(folder).tensors()
    assert all(torch.equal(before[name], after[name]) for name in before)


def change(folder: Path, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"problem_type": "regression"},
            "config.json: BertForSequenceClassification: one label, a model of scores (regression)"
            ".  A classifier that is read gives one label among several to one text or image, or "
            "any number of labels to one text.",
        ),
        (
            {"id2label": {"0": "a", "1": "b"}},
            'config.json: id2label={"0": "a", "1": "b"}: a name for each of 0 to 2 was expected.',
        ),
        (
            {"id2label": {"0": "a", "1": "b", "2": "a"}},
            "config.json: id2label gives two labels the same name.",
        ),
    ],
    ids=["scores", "too few", "twice"],
)
def test_labels_that_cannot_be_are_refused(fields, message, transformers, tmp_path):
    change(published(transformers, "bert", tmp_path, seed=1), **fields)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_two_default_names_that_old_releases_wrote_for_all_labels_are_numbered_on(
    transformers, tmp_path
):
    published(transformers, "bert", tmp_path, seed=1)
    change(tmp_path, id2label={"0": "LABEL_0", "1": "LABEL_1"}, num_labels=3)
    assert load(tmp_path).config.data.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    peer = transformers.AutoConfig.from_pretrained(tmp_path)
    assert tuple(peer.id2label.values()) == ("LABEL_0", "LABEL_1", "LABEL_2")


# --- ours -----------------------------------------------------------------------------------------


def own(tokenizer: Tokenizer, **changes) -> Any:
    """Make a classifier of a drawn encoder."""
    sizes: dict[str, Any] = {
        "num_layers": 2,
        "dim": 16,
        "num_heads": 2,
        "hidden_dim": 24,
        "max_positions": 40,
    }
    sizes |= {"has_mlm_head": False, "has_pooler": True, **changes}
    config = BertConfig(**sizes)
    torch.manual_seed(4)
    model = Classifier(make_encoder(config, len(tokenizer)), 3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    data = DataConfig(labels=LABELS)
    run = RunConfig(task="classification", model=config, data=data)
    return TextClassifier(model, tokenizer, run)


def make_encoder(config: BertConfig, vocab_size: int) -> Any:
    return make_model(config, vocab_size, AttentionConfig())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {}),
        ("bert", {"activation": "gelu_tanh", "head_activation": "gelu_tanh", "epsilon": 1e-5}),
        ("roberta", {"position_offset": 1, "num_segments": 1}),
        ("distilbert", {"num_segments": 0, "pooler_activation": "relu"}),
    ],
)
def test_one_of_ours_opens_in_transformers(kind, changes, tokenizer, transformers, tmp_path):
    ours = own(tokenizer, **changes)
    found = export_model(ours, tmp_path)
    assert (found.model_type, found.difference) == (kind, 0)
    ids = padded_ids(len(tokenizer), (9, 3), 0)
    with torch.no_grad():
        assert_near(ours.model(ids), their_logits(transformers, tmp_path, ids, 0))
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["id2label"] == {"0": "joy", "1": "anger", "2": "fear"}
    texts = ["7 red cat", "old"]
    again = [entry.label for entry in load(tmp_path).classify(texts)]
    assert again == [entry.label for entry in ours.classify(texts)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm": "pre"}, "model.norm=pre: bert checkpoints have post only."),
        (
            {"pooling": "mean", "has_pooler": False},
            "model.pooling=mean: bert checkpoints with labels have first only.",
        ),
        (
            {"has_pooler": False},
            "model.has_pooler=false: bert checkpoints with labels have true only.",
        ),
        (
            {"num_segments": 0},
            "model.num_segments=0: bert checkpoints have 1 or more.",
        ),
        (
            {"norm": "pre", "pooling": "mean"},
            "model.norm=pre: bert checkpoints have post only.  model.pooling=mean: bert "
            "checkpoints with labels have first only.  A model that can be written is trained "
            "with `model.norm=post` `model.pooling=first`.",
        ),
    ],
    ids=["norm", "pooling", "pooler", "segments", "several"],
)
def test_what_no_format_can_express_is_refused(changes, reason, tokenizer, tmp_path):
    with pytest.raises(ConfigError) as caught:
        export_model(own(tokenizer, **changes), tmp_path / "out")
    assert str(caught.value).startswith(
        "model.family=bert: no published layout has a place for this model.  "
    )
    assert reason in str(caught.value)
    assert not (tmp_path / "out").exists()


# --- going on -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Texts about a cat, or not."""
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.jsonl")


def with_vocabulary(folder: Path, tokenizer: Tokenizer) -> Path:
    for name, content in vocabulary_files(tokenizer).items():
        (folder / name).write_text(str(content))
    return folder


def started_with(reviews, start, output, *settings) -> dict[str, float]:
    events = []
    train(
        reviews,
        output,
        settings=(f"start_from={start}", *SETTINGS, *settings),
        report=events.append,
    )
    (started,) = [event for event in events if isinstance(event, Started)]
    return started.measures


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_labels_in_another_order_keep_their_map(
    kind, reviews, tokenizer, transformers, tmp_path
):
    folder = tmp_path / "hf"
    vocab = len(tokenizer)
    published(transformers, kind, folder, seed=3, labels=("other", "cat"), vocab=vocab)
    with_vocabulary(folder, tokenizer)
    started_with(reviews, folder, tmp_path / "more", "optimizer.learning_rate=1e-12")
    before, after = load(folder), load(tmp_path / "more")
    assert after.labels == ("cat", "other")
    assert after.config.fine_tuning.model_type == kind  # in which an export writes it
    for text in ("7 red cat sees the tree", "old dog"):
        ((a,), (b,)) = before.classify([text]), after.classify([text])
        assert a.probabilities["cat"] == pytest.approx(b.probabilities["cat"], abs=1e-4)


@pytest.mark.slow
def test_other_labels_begin_at_zero(reviews, tokenizer, transformers, tmp_path):
    folder = published(transformers, "bert", tmp_path / "hf", seed=3, vocab=len(tokenizer))
    found = started_with(reviews, with_vocabulary(folder, tokenizer), tmp_path / "more")
    assert found["loss"] == pytest.approx(0.693, abs=1e-3)


@pytest.mark.slow
def test_an_encoder_gets_the_head_of_its_format_and_goes_out(
    reviews, tokenizer, transformers, tmp_path
):
    ours = own(tokenizer, num_segments=0, has_pooler=False)
    run = RunConfig(task="masked-language-modeling")
    encoder = TextEncoder(ours.model.encoder, tokenizer, run)
    export_model(encoder, tmp_path / "hf")
    assert json.loads((tmp_path / "hf/config.json").read_text())["model_type"] == "distilbert"
    settings = ("training.batch_tokens=256", "training.epochs=2")
    started_with(reviews, tmp_path / "hf", tmp_path / "more", *settings)
    more = load(tmp_path / "more")
    assert more.model.encoder.config.pooler_activation == "relu"
    assert float(more.model.encoder.pooler.weight.detach().std()) == pytest.approx(0.02, rel=0.5)
    found = export_model(more, tmp_path / "out")
    assert found.model_type == "distilbert"
    assert found.peer_difference is not None
    assert found.peer_difference < 1e-4 * found.scale


@pytest.mark.slow
def test_a_run_from_a_classifier_that_was_stopped_ends_with_the_same_bits(
    reviews, tokenizer, transformers, tmp_path
):
    class CrashError(Exception):
        pass

    def crash(event):
        if isinstance(event, Saved):
            raise CrashError

    folder = published(transformers, "bert", tmp_path / "hf", seed=3, vocab=len(tokenizer))
    with_vocabulary(folder, tokenizer)
    settings = (f"start_from={folder}", *SETTINGS)
    train(reviews, tmp_path / "a", settings=settings)
    with pytest.raises(CrashError):
        train(reviews, tmp_path / "b", settings=settings, report=crash)
    resume(tmp_path / "b")
    ours, theirs = (load(tmp_path / name).model for name in "ab")
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_the_commands_classify_and_export(tokenizer, transformers, tmp_path, capsys):
    folder = published(transformers, "distilbert", tmp_path / "hf", seed=3, vocab=len(tokenizer))
    with_vocabulary(folder, tokenizer)
    assert main(["classify", str(folder), "7 red cat", "--top", "3"]) == 0
    assert {*capsys.readouterr().out.rstrip("\n").split("\t")} >= {*LABELS}
    rows = write_reviews(tmp_path / "rows.jsonl", num=40)
    rows.write_text(rows.read_text().replace('"cat"', '"joy"').replace('"other"', '"fear"'))
    assert main(["evaluate", str(folder), str(rows)]) == 0
    assert "40 texts" in capsys.readouterr().out
    assert main(["export", str(folder), "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model_type"] == "distilbert"


def test_a_published_encoder_alone_still_has_its_own_pooler(tokenizer):
    config = own(tokenizer).model.encoder.config
    relu = msgspec.structs.replace(config, pooler_activation="relu")
    with pytest.raises(ConfigError, match=r"model\.pooler_activation=relu: bert checkpoints"):
        CHECKPOINT_FORMATS["bert"].write(relu, 50)
