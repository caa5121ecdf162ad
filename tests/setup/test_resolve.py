"""Settings are decided once, by a pure function, as a table; sizes follow one that is set."""

from __future__ import annotations

import json
from functools import reduce

import pytest
from tests.setup.decide import FAST_BF16, MACHINE, decide
from tests.setup.test_pretrained import write_reviews
from tests.tasks.classification.input_data import draw_bars

from regard.cli.wording import error_text
from regard.errors import ConfigError
from regard.hub.model_folder import ModelFolder
from regard.models import BertConfig, GptConfig, VitConfig
from regard.runs.run import train
from regard.setup.config import RunConfig
from regard.setup.facts import DataFacts, Facts, Pretrained
from regard.setup.request import Request
from regard.setup.resolve import resolve
from regard.tasks import TASKS

SMALL = (
    "preset=tiny",
    "model.dim=16",
    "model.num_heads=2",
    "model.hidden_dim=32",
    "model.num_layers=1",
    "training.epochs=1",
    "task=image-classification",
)


def value_of(config, name):
    """Return a setting by its dotted name."""
    return reduce(getattr, name.split("."), config)


@pytest.mark.parametrize(
    ("settings", "facts", "name", "value"),
    [
        # the preset follows from the amount of data, its sizes from the preset
        ((), {"num_chars": 1_999_999}, "preset", "tiny"),
        ((), {"num_chars": 2_000_000}, "preset", "small"),
        ((), {"num_chars": 199_999_999}, "preset", "small"),
        ((), {"num_chars": 200_000_000}, "preset", "base"),
        # a base model sees a token a weight in 1.5e16 operations: on this machine in 174 hours
        (("training.minutes=60",), {"num_chars": 200_000_000}, "preset", "small"),
        (("training.minutes=60",), {"num_chars": 200_000_000}, "model.dim", 256),
        (("training.minutes=60", "preset=base"), {"num_chars": 200_000_000}, "preset", "base"),
        (("training.minutes=12000",), {"num_chars": 200_000_000}, "preset", "base"),
        (("preset=auto",), {"num_chars": 10}, "preset", "tiny"),
        (("preset=base",), {"num_chars": 10}, "preset", "base"),
        (("preset=base",), {}, "model.dim", 512),
        ((), {}, "model.dim", 128),
        ((), {}, "training.batch_tokens", 1024),
        ((), {}, "optimizer.learning_rate", 8e-3),
        # what is set wins
        (("model.dim=64",), {}, "model.dim", 64),
        (("model.dim=64",), {}, "model.hidden_dim", 512),
        (("training.batch_tokens=77",), {}, "training.batch_tokens", 77),
        (("optimizer.learning_rate=0.5",), {}, "optimizer.learning_rate", 0.5),
        (("model.dim=64", "model.dim=32"), {}, "model.dim", 32),
        # the families of a task, in the role that they have in it
        (("model.family=lstm",), {}, "model.dim", 192),
        (("model.family=lstm",), {"task": "language-modeling"}, "model.num_decoder_layers", 2),
        ((), {"task": "language-modeling"}, "training.label_smoothing", 0.0),
        # outputs are ranked as `transformers` does
        ((), {}, "search.ranking", "transformers"),
        ((), {}, "search.stopping", "likely"),
        ((), {"task": "summarization"}, "search.ranking", "transformers"),
        ((), {"task": "summarization"}, "search.no_repeat_size", 3),
        (("qa.kind=generative",), {"task": "question-answering"}, "search.stopping", "certain"),
        (("search.ranking=wu",), {}, "search.ranking", "wu"),
        # heads that divide a size set alone
        (("model.dim=130",), {"task": "classification"}, "model.num_heads", 2),
        (("model.dim=131",), {"task": "classification"}, "model.num_heads", 1),
        (("model.dim=1000",), {"task": "classification"}, "model.num_heads", 4),
        (("model.dim=128", "model.num_heads=2"), {}, "model.num_heads", 2),
        (("model.dim=130", "preset=base"), {}, "model.num_heads", 2),
        # what the data says
        ((), {"labels": ("bad", "good")}, "data.labels", ("bad", "good")),
        ((), {"languages": "en-de"}, "data.languages", "en-de"),
        ((), {"mean": (1.0,), "std": (2.0,)}, "data.std", (2.0,)),
        # the precision of the machine
        ((), {"machine": FAST_BF16}, "training.precision", "bf16"),
        ((), {"machine": MACHINE}, "training.precision", "float32"),
        (("training.precision=float32",), {"machine": FAST_BF16}, "training.precision", "float32"),
        (("optimizer.name=cg",), {"machine": FAST_BF16}, "training.precision", "float32"),
        # methods that see all rows at once: no rate, no average, no dropout
        (("optimizer.name=cg",), {}, "optimizer.learning_rate", None),
        (("optimizer.name=cg",), {}, "training.average", 0.0),
        (("optimizer.name=cg", "training.average=0.5"), {}, "training.average", 0.5),
        (("optimizer.name=cg", "preset=small"), {}, "model.dropout", 0.0),
        (("optimizer.name=cg", "model.dropout=0.2"), {}, "model.dropout", 0.2),
        (("optimizer.name=adam-then-cg",), {}, "optimizer.learning_rate", 8e-3),
        # a patience that is set is exact
        ((), {}, "training.patience_steps", 100),
        (("training.patience=2",), {}, "training.patience_steps", 0),
        (
            ("training.patience=2", "training.patience_steps=7"),
            {},
            "training.patience_steps",
            7,
        ),
        ((), {}, "data.split_rule", 2),
        # dropout where rows are seen often enough to be memorized
        (("preset=small", "training.epochs=5"), {}, "model.dropout", 0.0),
        (("preset=small", "training.epochs=6"), {}, "model.dropout", 0.1),
        (("preset=small",), {}, "model.dropout", 0.1),
        (("preset=small", "training.epochs=1", "model.dropout=0.1"), {}, "model.dropout", 0.1),
        (("preset=small", "training.minutes=0.01"), {}, "model.dropout", 0.0),
        (("preset=small", "training.minutes=600"), {}, "model.dropout", 0.1),
        (("preset=small", "training.minutes=600", "training.epochs=2"), {}, "model.dropout", 0.0),
    ],
)
def test_a_setting_follows_from_what_is_set_and_what_the_data_says(settings, facts, name, value):
    assert value_of(decide(*settings, **facts), name) == value


def test_the_same_request_and_facts_give_the_same_settings_and_change_neither():
    request = Request.parse(["model.dim=130", "preset=small"])
    facts = Facts(data=DataFacts(num_chars=10), vocab_size=300, num_tokens=10)
    first = resolve(request, facts, MACHINE, TASKS["translation"])
    assert resolve(request, facts, MACHINE, TASKS["translation"]) == first
    assert request == Request.parse(["model.dim=130", "preset=small"])


@pytest.mark.parametrize("task", TASKS)
def test_settings_that_are_decided_stay_when_they_are_read_again(task, tmp_path):
    sizes = {"num_labels": 2} if "-classification" in task else {}
    facts = {"labels": ("a", "b"), "model": sizes} if "classification" in task else {}
    decided = decide(f"task={task}", "optimizer.clip=0.5", task=task, **facts)
    folder = ModelFolder(tmp_path / "m")
    folder.create()
    folder.write_config(decided)
    request = Request.parse((), file=tmp_path / "m" / "config.toml")
    again = resolve(
        request,
        Facts(data=DataFacts(num_chars=100_000, **facts), vocab_size=300, num_tokens=30_000),
        MACHINE,
        TASKS[task],
    )
    assert again == decided
    assert request.is_explicit("optimizer.clip")
    assert not request.is_explicit("optimizer.learning_rate")


def test_weights_to_start_from_bring_their_sizes_and_pace():
    source = RunConfig(task="language-modeling", preset="small", model=GptConfig(dim=96))
    start = Pretrained(config=source)
    config = decide(task="language-modeling", pretrained=start, num_chars=10**9)
    assert (config.model.dim, config.preset, config.optimizer.name) == (96, "small", "muon")
    assert config.optimizer.learning_rate == pytest.approx(0.3 * 6e-3)
    lora = decide("fine_tuning.method=lora", task="language-modeling", pretrained=start)
    assert (lora.optimizer.name, lora.optimizer.learning_rate) == ("adamw", 1e-3)


def test_weights_to_start_from_keep_the_scale_of_their_inputs():
    known = decide("data.max_length=64", task="series-classification", mean=(1.0,), std=(2.0,))
    start = Pretrained(config=known)
    config = decide(task="series-classification", pretrained=start, mean=(5.0,), std=(6.0,))
    assert (config.data.mean, config.data.std) == ((1.0,), (2.0,))


@pytest.mark.parametrize(
    ("settings", "task", "message"),
    [
        (("preset=huge",), "translation", "preset=huge: one of auto, tiny, small, base was"),
        (("model.family=gpt",), "translation", "model.family=gpt: does not translate.  Take one"),
        (("model.dim=32", "model.num_heads=3"), "classification", "model.dim=32: "),
        (("model.zzz=1",), "translation", "unknown setting model.zzz.  model.family=transformer"),
        (
            ("optimizer.name=cg", "training.precision=bf16"),
            "translation",
            "training.precision=bf16: optimizer cg compares values",
        ),
        (
            ("training.coverage=1", "model.has_copy=false"),
            "translation",
            "--set training.coverage=1: the loss of a model that copies, and this one does not.  "
            "Leave it out, or add --set model.has_copy=true",
        ),
        (("training.coverage=1",), "classification", "--set training.coverage=1: the loss of a"),
        (
            ("optimizer.name=newton-cg", "model.has_copy=true"),
            "translation",
            "--set optimizer.name=newton-cg: the Gauss-Newton matrix needs a loss that is convex",
        ),
        (
            ("model.family=lstm", "model.has_copy=true"),
            "translation",
            "unknown setting model.has_copy.  It goes with model.family=transformer.",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(settings, task, message):
    with pytest.raises(ConfigError) as caught:
        decide(*settings, task=task)
    assert error_text(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("model.dim=many",), "model.dim=many: a whole number was expected."),
        (("model.hidden_dm=3",), "unknown setting model.hidden_dm.  Did you mean hidden_dim?"),
        (("training.epochs=0",), "training.epochs=0: epochs must be 1 or more, not 0"),
        (("attention.pattern=local:0",), "attention.pattern=local:0: the window must be 1 or"),
        (("zzz.name=cg",), "unknown section zzz."),
    ],
)
def test_what_can_be_refused_is_refused_before_the_data_is_read(settings, message):
    with pytest.raises(ConfigError) as caught:
        Request.parse(settings).check(RunConfig(task="classification", model=BertConfig()))
    assert message.split("  ")[0] in error_text(caught.value)


def test_sizes_of_the_data_are_taken_where_none_are_set():
    sizes = {"input": "features", "num_features": 3, "max_positions": 20, "num_labels": 4}
    config = decide(task="series-classification", model=sizes)
    assert isinstance(config.model, VitConfig)
    assert (config.model.num_features, config.model.max_positions) == (3, 20)
    chosen = decide("model.max_positions=30", task="series-classification", model=sizes)
    assert chosen.model.max_positions == 30


def test_a_preset_beside_a_file_of_another_is_refused(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('preset = "tiny"\n[model]\nfamily = "transformer"\ndim = 32\nnum_heads = 2\n')
    assert Request.parse((), file=path).is_explicit("model.dim")
    with pytest.raises(ConfigError, match=r"preset=small: .* has the sizes of preset=tiny"):
        Request.parse(["preset=small"], file=path)


LONG = "data.max_length=600"


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("translation", ("model.positions=learned",)),
        ("translation", ("model.family=conv_s2s",)),
        ("language-modeling", ("model.positions=learned", "model.max_positions=512")),
    ],
)
def test_texts_longer_than_a_table_of_positions_are_refused(task, settings):
    with pytest.raises(ConfigError) as caught:
        decide(LONG, *settings, task=task)
    assert str(caught.value) == (
        "data.max_length=600: the model has 512 positions.  Set `data.max_length=512` "
        "or less, or `model.max_positions=600`."
    )
    assert decide("data.max_length=512", *settings, task=task).data.max_length == 512


def test_positions_without_a_table_have_no_limit():
    assert decide(LONG).data.max_length == 600
    assert decide("data.max_length=2000", task="language-modeling").data.max_length == 2000


@pytest.mark.parametrize(
    ("settings", "task", "copies"),
    [
        ((), "summarization", True),
        (("preset=small",), "summarization", True),
        (("model.has_copy=false",), "summarization", False),
        ((), "translation", True),
        (("optimizer.name=newton-cg",), "translation", False),
        (("optimizer.name=newton-cg",), "summarization", False),
        (("optimizer.name=newton-cg", "optimizer.curvature=hessian"), "translation", True),
        (("optimizer.name=cg",), "translation", True),
    ],
)
def test_a_transformer_copies_unless_the_optimizer_needs_a_convex_loss(settings, task, copies):
    assert decide(*settings, task=task).model.has_copy is copies


@pytest.mark.slow
def test_a_classifier_trains_with_its_size_set_alone(tmp_path):
    data = write_reviews(tmp_path / "reviews.jsonl", num=60)
    settings = ("model.dim=32", "training.epochs=1", "tokenizer.kind=byte")
    train(data, tmp_path / "model", settings=settings)
    model = ModelFolder(tmp_path / "model").read_config(RunConfig).model
    assert isinstance(model, BertConfig)
    assert (model.dim, model.num_heads, model.hidden_dim) == (32, 4, 512)
    lines = (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "finished"


@pytest.mark.slow
def test_heads_that_somebody_set_and_do_not_divide_are_refused(tmp_path):
    data = write_reviews(tmp_path / "reviews.jsonl", num=60)
    with pytest.raises(ConfigError, match=r"dim must be a multiple of num_heads \(3\)|model\.dim"):
        train(data, tmp_path / "model", settings=("model.dim=32", "model.num_heads=3"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Images of 8 x 8 pixels, one a row."""
    path = tmp_path_factory.mktemp("data") / "bars.csv"
    names = ",".join(f"p{number}" for number in range(64))
    lines = [f"label,{names}"]
    for image, label in zip(*draw_bars(24), strict=True):
        lines.append(f"{label}," + ",".join(map(str, image.ravel().tolist())))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "sides", "patches"),
    [
        (("model.height=4",), (4, 8), (2, 2)),
        (("model.height=4", "model.width=15"), (4, 15), (2, 3)),
        (("model.patch_width=3",), (8, 9), (2, 3)),
    ],
)
def test_the_sides_of_images_or_patches_that_are_not_set_follow_the_others(
    settings, sides, patches, rows, tmp_path
):
    model = train(rows, tmp_path / "m", settings=(*SMALL, *settings)).config.model
    assert (model.height, model.width) == sides
    assert (model.patch_height, model.patch_width) == patches


def test_sides_of_images_and_patches_that_do_not_fit_are_refused(rows, tmp_path):
    with pytest.raises(ConfigError, match=r"height must be a multiple of patch_height \(3\): 28"):
        train(rows, tmp_path / "m", settings=("model.height=28", "model.patch_height=3", *SMALL))
