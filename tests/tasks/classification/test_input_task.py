"""Images, recordings and series, from data to a model that the verbs use."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace
from tests.data.readers.test_idx import write_idx
from tests.tasks.classification.input_data import draw_bars, write_wav, write_waves, write_words

import regard
from regard import load
from regard.__main__ import main
from regard.errors import ConfigError, DataError, WeightsError
from regard.explain.layer_table import layer_table, training_flops_per_token
from regard.hub.model_folder import ModelFolder
from regard.hub.storage import read_tensors
from regard.models import Vit
from regard.runs.run import estimate, resume, train
from regard.setup.build import build_model
from regard.setup.config import RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.fine_tuning import load_pretrained
from regard.tasks import TASKS, guess_task, task_named
from regard.tasks.classification.input_predictor import InputClassifier
from regard.training.checkpoint import checkpoint_path
from regard.training.events import Evaluated, Planned, Saved, Warned

TINY = (
    "preset=tiny",
    "model.dim=16",
    "model.hidden_dim=32",
    "model.num_heads=2",
    "model.num_layers=1",
    "model.dropout=0.1",
    "training.precision=float32",
    "training.batch_tokens=512",
    "training.epochs=2",
)


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def words_of(settings):
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return write_words(tmp_path_factory.mktemp("data") / "words")


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    return write_waves(tmp_path_factory.mktemp("data") / "waves.csv")


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """A folder in MNIST's layout."""
    folder = tmp_path_factory.mktemp("data") / "bars"
    folder.mkdir()
    for part, num in (("train", 80), ("t10k", 20)):
        images, labels = draw_bars(num, seed=num)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        numbers = [int(label == "lying") for label in labels]
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", numbers)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of image files, one of them of another size."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("data") / "pictures"
    for number, (pixels, label) in enumerate(zip(*draw_bars(40), strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        picture = image.fromarray(pixels)
        picture = picture.resize((16, 16)) if number == 3 else picture
        picture.save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def sources(words, waves, bars, pictures):
    return {"words": words, "waves": waves, "bars": bars, "pictures": pictures}


@pytest.fixture(scope="module")
def models(sources, tmp_path_factory):
    """A model of each source, trained a little."""
    folders = {name: tmp_path_factory.mktemp("models") / name for name in sources}
    for name, folder in folders.items():
        train(sources[name], folder, settings=TINY)
    return folders


NAMES = pytest.mark.parametrize("name", ["words", "waves", "bars", "pictures"])
KINDS = {
    "words": ("audio-classification", "recordings"),
    "waves": ("series-classification", "series"),
    "bars": ("image-classification", "images"),
    "pictures": ("image-classification", "images"),
}


@NAMES
def test_the_data_tells_the_task(sources, name):
    assert guess_task(sources[name]) == KINDS[name][0]


def test_a_file_with_text_and_label_stays_a_text_classifiers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n1.5,x\n")
    assert guess_task(path) == "classification"
    path.write_text("source,label\nhello,hallo\n")
    assert guess_task(path) == "translation"


def test_rows_of_numbers_without_a_column_of_labels_are_series_still(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("kind,a,b,c,d\nsine,1,2,3,4\n")
    assert guess_task(path) == "series-classification"
    path.write_text("id,source,target,score\n1,hello,hallo,0.5\n")
    assert guess_task(path) == "translation"


@pytest.mark.parametrize("name", ["a.wav", "a.PNG", "t10k-images-idx3-ubyte.gz"])
def test_one_image_or_recording_is_no_training_data(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0")
    with pytest.raises(DataError) as caught:
        guess_task(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name}: one file of images or sound.  Name the folder: "
        "FOLDER/LABEL/FILE.wav or FILE.png, or MNIST's train-images-idx3-ubyte.gz."
    )


def test_images_right_in_a_folder_have_no_labels(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no images in folders named for their labels\.  Expected"):
        guess_task(tmp_path)


@pytest.mark.slow
def test_images_of_a_folder_in_mnists_layout_are_classified(capsys, models, bars):
    code, out, _ = run(capsys, "classify", models["bars"], bars)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 20 and lines[0].startswith("image 1\t")
    code, out, _ = run(capsys, "classify", models["bars"], bars / "train-images-idx3-ubyte.gz")
    assert code == 0 and len(out.splitlines()) == 80


@NAMES
def test_a_run_leaves_a_model_that_opens_and_classifies(models, sources, name):
    opened = regard.load(models[name])
    assert isinstance(opened, InputClassifier)
    assert isinstance(opened.model, Vit)
    found = [entry for _, entry in opened.stream(str(sources[name]))] if name != "bars" else []
    for entry in found:
        assert entry.label in opened.labels
        assert sum(entry.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    assert not (models[name] / "tokenizer.json").exists()
    card = (models[name] / "README.md").read_text()
    assert "tokenizer | none" in card
    assert "it gives one of its labels\nto any other" in card
    assert "what it writes" not in card


def test_sizes_are_those_of_the_data(models):
    configs = {name: ModelFolder(folder).read_config(RunConfig) for name, folder in models.items()}
    image = configs["bars"].model
    assert (image.height, image.width, image.channels, image.patch_height) == (8, 8, 1, 2)
    assert configs["pictures"].model == image
    assert (configs["words"].audio.sample_rate, configs["words"].audio.window_size) == (8_000, 200)
    assert configs["words"].model.num_features == 40
    assert configs["words"].data.mean == ()
    assert configs["words"].model.max_positions <= 26
    assert configs["waves"].model.num_features == 1
    assert configs["waves"].model.max_positions == 32
    assert [c.model.num_labels for c in configs.values()] == [3, 3, 2, 2]


@NAMES
def test_what_is_kept_standardizes_inputs_bit_for_bit(models, sources, name):
    config = regard.load(models[name]).config
    options = msgspec.structs.replace(ReadOptions.from_config(config), has_sizes=False)
    facts = TASKS[config.task].read(options).facts()
    assert (facts.mean, facts.std) == (config.data.mean, config.data.std)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bars", 3, r"array of numbers of shape \[1, 8, 8\] was expected, not \[\]"),
        ("bars", np.zeros((8, 8, 1)), r"of shape \[1, 8, 8\] was expected, not \[8, 8, 1\]"),
        ("words", np.zeros(40), r"of shape \[length, 40\] was expected, not \[40\]"),
        ("words", np.zeros((0, 40)), r"of shape \[length, 40\] was expected, not \[0, 40\]"),
        ("waves", np.array([[1.0], [np.nan]]), "some of its numbers are not finite"),
    ],
)
def test_values_that_a_model_cannot_read_are_refused_by_number(models, name, value, message):
    opened = regard.load(models[name])
    with pytest.raises(ConfigError, match=rf"`values\[0\]`: .*{message}"):
        opened.classify([value])
    with pytest.raises(ConfigError, match="`values`: a list of arrays was expected, not NoneType"):
        opened.classify(None)


def test_one_file_is_classified_by_its_path(models, pictures, words, waves):
    for name, data in (("pictures", pictures), ("words", words)):
        opened = regard.load(models[name])
        path, expected = next(iter(opened.stream(str(data))))
        assert opened.classify(path).label == expected.label
        assert [entry.label for entry in opened.classify([Path(path)] * 2)] == 2 * [expected.label]
        with pytest.raises(
            ConfigError, match=r"may have several .*The label of each: stream\(PATH"
        ):
            opened.classify(data)
        with pytest.raises(DataError, match=r"a\.png: no such file"):
            opened.classify(["a.png"])
    with pytest.raises(ConfigError, match=r"may have several series\.  The label of each: stream"):
        regard.load(models["waves"]).classify(waves)


def test_a_table_of_shorter_series_than_those_of_training_is_noted(models, tmp_path):
    opened = regard.load(models["waves"])
    longest = opened.config.model.max_positions
    path = tmp_path / "short.csv"
    path.write_text("a,b,c\n1,2,3\n3,2,1\n")
    with pytest.warns(match=rf"every series is 3 rows long; those of training are up to {longest}"):
        assert len(list(opened.stream(str(path)))) == 2


def test_advice_to_set_a_size_is_for_training_alone(models, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("label,a,b,c\nx,1,2,3\n")
    opened = regard.load(models["bars"])
    expected = (
        r"rows\.csv:2: 3 numbers are not a square image with 1 channel\.  The model reads images "
    )
    with pytest.raises(DataError, match=rf"{expected}of 8 x 8 pixels, 64 numbers a row\.$"):
        list(opened.stream(str(path)))


def test_the_end_of_a_recording_that_is_not_read_is_named(capsys, models, tmp_path):
    opened = regard.load(models["words"])
    longest = opened.config.model.max_positions
    frames = longest + 30
    write_wav(tmp_path / "long" / "1.wav", np.zeros(80 * (frames - 1)))  # 80 samples from one on
    write_wav(tmp_path / "long" / "2.wav", np.zeros(80))
    results = [result for _, result in opened.stream(str(tmp_path / "long"))]
    assert sorted(result.truncated for result in results) == [0, 30]
    code, out, err = run(capsys, "classify", models["words"], tmp_path / "long", "--json")
    assert code == 0
    assert [json.loads(line).get("truncated") for line in out.splitlines()] == [30, None]
    sentence = f"1 of 2 recordings is longer than {longest} frames: the rest was cut off"
    assert sentence in err


class Crash(Exception):  # noqa: N818 - it stands for an event
    """Stands for a power cut."""


def crash(event):
    if isinstance(event, Saved) and event.step >= 2:
        raise Crash


TIMED = {"elapsed", "left", "tokens_per_second", "seconds", "estimate", "folder", "tries"}


def essence(folder):
    """Return everything of a finished run that must not depend on time or interruptions."""
    weights = ModelFolder(folder).weights_path.read_bytes()
    tensors, _ = read_tensors(checkpoint_path(folder))
    lines = ModelFolder(folder).read_metrics()
    kept = [{key: value for key, value in line.items() if key not in TIMED} for line in lines]
    return weights, {name: value.tolist() for name, value in tensors.items()}, kept


@pytest.mark.slow
@pytest.mark.parametrize("name", ["words", "bars"])
def test_a_run_that_crashes_ends_with_the_same_bits(tmp_path, models, sources, name):
    settings = (*TINY, "training.checkpoint_seconds=0.0")
    train(sources[name], tmp_path / "straight", settings=settings)
    with pytest.raises(Crash):
        train(sources[name], tmp_path / "broken", settings=settings, report=crash)
    resume(tmp_path / "broken")
    assert essence(tmp_path / "broken") == essence(tmp_path / "straight")


def test_a_run_whose_files_have_changed_does_not_continue(tmp_path):
    folder = write_words(tmp_path / "words", num=8)
    with pytest.raises(Crash):
        train(
            folder,
            tmp_path / "m",
            settings=(*TINY, "training.checkpoint_seconds=0.0"),
            report=crash,
        )
    write_wav(folder / "low" / "more.wav", np.zeros(2_000))
    with pytest.raises(DataError, match="has changed since this run began"):
        resume(tmp_path / "m")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "cg", "newton-cg"])
def test_optimizers_of_batches_and_of_all_rows_train_it(tmp_path, waves, optimizer):
    train(waves, tmp_path / "m", settings=(*TINY, f"optimizer.name={optimizer}"))
    assert ModelFolder(tmp_path / "m").read_metrics()[-1]["event"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["local:4", "local:2 | global:1"])
def test_every_pattern_goes_with_it(tmp_path, words, pattern):
    settings = (*TINY, f"attention.encoder={pattern}", "training.epochs=1")
    train(words, tmp_path / "m", settings=settings)
    assert len(load(tmp_path / "m").labels) == 3


@pytest.mark.parametrize("name", ["waves", "words", "pictures"])
def test_classify_prints_label_and_probability(capsys, models, sources, name):
    code, out, _ = run(capsys, "classify", models[name], sources[name], "--top", 2)
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    num_named = 0 if name == "waves" else 1
    assert {len(line) for line in lines} == {4 + num_named}
    assert len(lines) == {"waves": 60, "words": 72, "pictures": 40}[name]
    assert lines[0][num_named] in regard.load(models[name]).labels


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["classify", "explain"])
@pytest.mark.parametrize("option", [("--text",), ("--encoding", "latin-1")], ids=" ".join)
def test_options_of_texts_are_refused_for_other_inputs(capsys, models, bars, verb, option):
    code, out, err = run(capsys, verb, models["bars"], bars, *option)
    assert (code, out) == (2, "")
    assert f"{option[0]} is for texts, and this model reads images.  Leave it out." in err


def test_classify_reads_names_of_files_from_standard_input(capsys, models, words, monkeypatch):
    from tests.cli.commands import feed

    feed(monkeypatch, f"{words}/low/0.wav\n{words}/high/1.wav\n")
    code, out, _ = run(capsys, "classify", models["words"], "-", "--json")
    entries = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [entry["input"] for entry in entries] == [f"{words}/low/0.wav", f"{words}/high/1.wav"]
    assert set(entries[0]["probabilities"]) == {"low", "high", "rising"}


def test_classify_reads_rows_from_standard_input(capsys, models, monkeypatch):
    from tests.cli.commands import feed

    feed(monkeypatch, "0.1,0.2,0.3,0.4\n")
    code, out, _ = run(capsys, "classify", models["waves"], "-")
    label, probability = out.rstrip("\n").split("\t")
    assert code == 0 and label in ("sine", "saw", "square") and 0 < float(probability) <= 1


@pytest.mark.slow
def test_every_verb_says_that_only_first_frames_are_read(capsys, tmp_path):
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(3)
    for number in range(24):
        file = tmp_path / "data" / ("dark", "light")[number % 2] / f"{number:02}.gif"
        file.parent.mkdir(parents=True, exist_ok=True)
        shades = generator.integers(0, 60, (2, 8, 8), dtype=np.uint8) + 190 * (number % 2)
        first, second = map(image.fromarray, shades)
        first.save(file, save_all=True, append_images=[second] if number < 3 else [])
    data, model = tmp_path / "data", tmp_path / "model"
    note = "3 files have several frames or pages (dark/00.gif has 2): the first of each is read."
    _, out, _ = run(capsys, "check", data)
    assert note in out
    _, out, _ = run(capsys, "check", data, "--json")
    assert json.loads(out)["frames"] == {"dark/00.gif": 2, "dark/02.gif": 2, "light/01.gif": 2}
    code, out, _ = run(capsys, "train", data, "-o", model, *words_of(TINY))
    assert (code, note in out) == (0, True)
    with pytest.warns(match="3 files have several frames or pages"):
        code, _, _ = run(capsys, "evaluate", model, data, "--allow-overlap")
    assert code == 0
    with pytest.warns(match="3 files have several frames or pages"):
        run(capsys, "classify", model, data)
    with pytest.warns(match=r"dark/00\.gif has 2 frames or pages: the first is read\."):
        run(capsys, "classify", model, data / "dark" / "00.gif")
    code, _, err = run(capsys, "classify", model, data / "dark" / "22.gif")
    assert (code, err) == (0, "")


def test_an_input_alone_is_classified_as_among_others(models, words):
    opened = regard.load(models["words"])
    among = dict(opened.stream(str(words)))
    place = str(words / "low" / "3.wav")
    ((_, alone),) = opened.stream(place)
    for label, share in alone.probabilities.items():
        assert among[place].probabilities[label] == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize("name", ["bars", "waves"])
def test_evaluate_prints_accuracy_beside_its_floor(capsys, models, sources, tmp_path, name):
    data = write_waves(tmp_path / "test.csv", seed=2) if name == "waves" else sources[name]
    words = ("evaluate", models[name], data, "--compare", models[name])
    code, out, _ = run(capsys, *words)
    assert code == 0
    lines = out.splitlines()
    num = 60 if name == "waves" else 20
    assert lines[0] == f"Data    {data}   {num} {KINDS[name][1]}   model {models[name]}"
    right, floors, verdict, comparison = lines[-4:]  # below the worst rows
    assert right.startswith("Right   ") and "macro F1" in right
    assert floors.startswith("Floors  most frequent label ")
    assert verdict.startswith("Verdict ")
    assert comparison.endswith("+0.0 points")
    code, out, _ = run(capsys, *words, "--json", "--worst", 1_000)
    report = json.loads(out)
    assert report["num_inputs"] == num
    assert len(report["worst"]) == num - round(num * report["accuracy"] / 100)
    certainty = [entry["probability"] for entry in report["worst"]]
    assert certainty == sorted(certainty, reverse=True)
    assert all(entry["label"] != entry["predicted"] for entry in report["worst"])
    assert not json.loads(run(capsys, *words, "--json", "--worst", 0)[1])["worst"]


def test_evaluating_on_the_training_data_is_refused(capsys, models, waves):
    code, _, err = run(capsys, "evaluate", models["waves"], waves)
    assert code == 3
    assert err == (
        f"regard: {waves}: 40 of 60 inputs are also in {waves}.  Scores would be too good.  "
        "Drop them: --drop-overlap;  keep: --allow-overlap\n"
    )
    assert run(capsys, "evaluate", models["waves"], waves, "--allow-overlap")[0] == 0
    code, out, _ = run(capsys, "evaluate", models["waves"], waves, "--drop-overlap")
    assert code == 0 and "20 series" in out


def test_check_tells_labels_and_sizes(capsys, words, waves, bars):
    _, out, _ = run(capsys, "check", words)
    assert f"Data    {words}   read as recordings, a folder for each label   72 rec" in out
    assert "\nTask    audio-classification\n" in out
    assert "Labels  high 24, low 24, rising 24" in out
    assert "Sizes   8,000 samples a second; 0.15 to 0.24 s long, median 0.20 s" in out
    _, out, _ = run(capsys, "check", waves)
    assert "Sizes   1 number a step; 24 to 32 steps long, median 28" in out
    _, out, _ = run(capsys, "check", bars, "--json")
    found = json.loads(out)
    assert sum(found["labels"].values()) == 100
    assert found["sizes"] == "8 x 8 pixels, grey, patches of 2 x 2"
    assert (found["num_train"], found["num_valid"], found["num_test"]) == (70, 10, 20)


@NAMES
def test_info_tells_parts_and_draws_them(capsys, models, name):
    code, out, _ = run(capsys, "info", models[name])
    assert code == 0
    assert "front end" in out and "Tokens" not in out
    code, out, _ = run(capsys, "info", models[name], "--diagram", "mermaid")
    assert code == 0
    assert (
        "learned positions" in out
        and f"logits of {3 if name in ('words', 'waves') else 2} labels" in out
    )


def test_flops_of_images_are_those_of_the_matrix_products(models):
    from regard.runs.information import inspect_folder

    found, model = inspect_folder(models["bars"])
    length, patches, dim, hidden, pixels = 17, 16, 16, 32, 4
    blocks = 2 * length * (4 * dim * dim + 2 * dim * hidden) + 4 * length * length * dim
    total = 2 * patches * pixels * dim + blocks + 2 * dim * 2
    assert found.length == length
    flops = training_flops_per_token(layer_table(model, length))
    assert flops == pytest.approx(3 * total / length)


def test_a_dry_run_tells_what_a_run_costs(waves):
    events = []
    found = estimate(waves, settings=TINY, report=events.append)
    assert isinstance(found, Planned)
    assert found.memory_bytes > 0


@pytest.mark.slow
def test_longer_series_are_cut_with_a_note(tmp_path, waves):
    events = []
    settings = (*TINY, "data.max_length=16")
    train(waves, tmp_path / "m", settings=settings, report=events.append)
    notes = [event.text for event in events if isinstance(event, Warned)]
    assert notes[0] == "40 series are cut to their first 16 rows (data.max_length)."
    opened = regard.load(tmp_path / "m")
    assert opened.config.model.max_positions == 16


@pytest.mark.slow
def test_several_numbers_can_make_a_step(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"{n % 2},{n},{n + 1},{n + 2},{n + 3}\n" for n in range(20))
    path.write_text("label,a,b,c,d\n" + rows)
    train(path, tmp_path / "m", settings=(*TINY, "model.num_features=2"))
    assert len(ModelFolder(tmp_path / "m").read_config(RunConfig).data.mean) == 2
    with pytest.raises(DataError) as caught:
        train(path, tmp_path / "n", settings=(*TINY, "model.num_features=3"))
    assert str(caught.value) == (
        f"{path}:2: 4 numbers are not a whole number of steps of 3 (model.num_features).  "
        "Fill the row up, or set another."
    )


@pytest.mark.slow
def test_rows_of_pixels_are_images_where_the_task_says_so(tmp_path):
    path = tmp_path / "bars.csv"
    lines = ["label," + ",".join(f"p{n}" for n in range(64))]
    for image, label in zip(*draw_bars(40), strict=True):
        lines.append(f"{label}," + ",".join(map(str, image.ravel().tolist())))
    path.write_text("\n".join(lines) + "\n")
    events = []
    estimate(path, settings=TINY, report=events.append)
    assert [event.text for event in events if isinstance(event, Warned)] == [
        "Rows of 64 whole numbers: images of 8 x 8 pixels?  "
        "Read them so: `task=image-classification`"
    ]
    train(path, tmp_path / "m", settings=(*TINY, "task=image-classification"))
    opened = regard.load(tmp_path / "m")
    assert (opened.config.model.height, opened.config.model.patch_width) == (8, 2)
    assert len(list(opened.stream(str(path)))) == 40


def test_rows_that_are_no_square_want_a_size(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label,a,b\n" + "x,1,2\ny,3,4\n" * 5)
    with pytest.raises(DataError) as caught:
        train(path, tmp_path / "m", settings=("task=image-classification",))
    assert str(caught.value) == (
        f"{path}:2: 2 numbers are not a square image with 1 channel.  Set its size: "
        "`model.height=H` `model.width=W` `model.channels=C`"
    )


def test_a_run_starts_from_a_model_with_other_labels(tmp_path, models, waves):
    other = tmp_path / "other.csv"
    other.write_text(waves.read_text().replace("saw", "ramp"))
    events = []
    settings = (f"start_from={models['waves']}", "training.epochs=1")
    train(other, tmp_path / "m", settings=settings, report=events.append)
    first, second = (
        ModelFolder(f).read_config(RunConfig) for f in (models["waves"], tmp_path / "m")
    )
    assert second.data.labels == ("ramp", "sine", "square")
    assert (second.data.mean, second.data.std) == (first.data.mean, first.data.std)
    assert any(isinstance(event, Evaluated) for event in events)
    assert next(event.text for event in events if isinstance(event, Warned)) == (
        "The output layer keeps what it knows of sine, square.  New: ramp.  "
        "Left out, since the data lacks them: saw."
    )


def test_rows_of_known_labels_are_kept(tmp_path, models):
    config = ModelFolder(models["waves"]).read_config(RunConfig)
    weights = ModelFolder(models["waves"]).read_weights()
    assert config.data.labels == ("saw", "sine", "square")
    data = replace(config.data, labels=("square", "ramp", "saw"))
    config = replace(config, start_from=str(models["waves"]), data=data)
    model = build_model(config, 0, task_named(config.task))
    load_pretrained(model, config)
    for name in ("weight", "bias"):
        rows, old = getattr(model.head, name), weights[f"head.{name}"]
        assert torch.equal(rows[0], old[2]) and torch.equal(rows[2], old[0])
    assert not model.head.weight[1].any()


def test_a_model_of_images_does_not_start_from_one_of_series(tmp_path, models, waves):
    with pytest.raises(ConfigError) as caught:
        train(waves, tmp_path / "m", settings=(f"start_from={models['bars']}",))
    assert str(caught.value) == (
        f"{models['bars']}: made for image-classification; the data is for series-classification."
    )


def test_a_folder_that_holds_neither_images_nor_sound_is_refused(capsys, tmp_path):
    (tmp_path / "data" / "x").mkdir(parents=True)
    (tmp_path / "data" / "x" / "a.txt").write_text("text")
    code, _, err = run(capsys, "train", tmp_path / "data", "-o", tmp_path / "m")
    assert code == 3
    assert err == (
        f"regard: {tmp_path}/data: no WAV files and no images in folders named for their labels.  "
        f"Expected {tmp_path}/data/LABEL/FILE.wav or FILE.png, or MNIST's "
        "train-images-idx3-ubyte.gz.  Kinds of files: 1 .txt.  Texts are read from one file: "
        'running text joined into one .txt, labelled texts as {"text": ..., "label": ...} a line '
        "of a .jsonl, or as one folder of .txt a label.\n"
    )


def test_a_recording_of_another_rate_is_refused(tmp_path):
    folder = write_words(tmp_path / "words", num=4)
    write_wav(folder / "low" / "z.wav", np.zeros(500), rate=16_000)
    with pytest.raises(DataError, match=r"z\.wav: 16,000 samples a second, 8,000 expected"):
        train(folder, tmp_path / "m", settings=TINY)


def test_another_family_is_refused(tmp_path, waves):
    with pytest.raises(ConfigError) as caught:
        train(waves, tmp_path / "m", settings=("model.family=bert",))
    assert str(caught.value) == "model.family=bert: does not classify series.  Take one of vit."


def test_text_verbs_refuse_a_model_of_images(capsys, models):
    with pytest.raises(WeightsError, match="made for image-classification, not for classification"):
        TASKS["classification"].open(models["bars"])


def test_makers_own_lists_of_held_out_files_are_heeded(tmp_path):
    folder = write_words(tmp_path / "words", num=8)
    (folder / "testing_list.txt").write_text("low/0.wav\nhigh/0.wav\n")
    (folder / "validation_list.txt").write_text("low/1.wav\n")
    task = TASKS["audio-classification"]
    data = msgspec.structs.replace(task.defaults.data, path=str(folder))
    text = task.read(ReadOptions(data=data, seed=1))
    assert text.test.locations == ["high/0.wav", "low/0.wav"]
    assert text.valid.locations == ["low/1.wav"]
    assert len(text.train) == 21


@pytest.mark.slow
def test_it_learns_handwritten_digits(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    for name, rows in (("train", order[:1437]), ("test", order[1437:])):
        lines = ["label," + ",".join(f"p{n}" for n in range(64))]
        lines += [f"{digits.target[row]}," + ",".join(map(str, digits.data[row])) for row in rows]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    settings = ("task=image-classification", "preset=tiny", f"data.test={tmp_path / 'test.csv'}")
    train(tmp_path / "train.csv", tmp_path / "m", settings=(*settings, "training.epochs=10"))
    assert ModelFolder(tmp_path / "m").read_metrics()[-1]["test"]["accuracy"] >= 97.0


@pytest.mark.slow
def test_a_classifier_of_texts_is_evaluated_too(capsys, tmp_path):
    for name, start in (("train", 0), ("test", 60)):
        rows = [f"{'good' if n % 2 else 'bad'} film {n},{n % 2}" for n in range(start, start + 60)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    settings = (*TINY[:5], "tokenizer.vocab_size=300", "training.epochs=1", "data.max_length=32")
    train(tmp_path / "train.csv", tmp_path / "m", settings=settings)
    code, out, _ = run(capsys, "evaluate", tmp_path / "m", tmp_path / "test.csv", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["num_inputs"], found["unit"], found["majority"]) == (60, "texts", 50.0)
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    code, _, err = run(capsys, "evaluate", tmp_path / "m", tmp_path / "train.csv")
    assert code == 3 and "inputs are also in" in err
