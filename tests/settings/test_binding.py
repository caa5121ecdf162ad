"""Settings: read from words and TOML, refused with a hint, written back, described."""

from __future__ import annotations

import enum
import math
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.settings.words import apply_settings

from regard.cli.wording import error_text
from regard.errors import ConfigError
from regard.settings.binding import bind, describe, from_toml, parse_settings, to_toml
from regard.setup.config import RunConfig


class Direction(enum.Enum):
    FORWARD = "forward"
    BACKWARD = "backward"


class Optimizer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights are changed.

    Longer talk: with a colon.

    Args:
        name: The method.
        learning_rate: Peak rate, reached after the warm-up,
            then decayed: above 0.
        clip: Largest norm of a gradient.
        betas: Decay of the two averages.
        direction: Which way to walk.

    Raises:
        ValueError: Never seen in the help.
    """

    name: Literal["adamw", "cg", "lbfgs"] = "adamw"
    learning_rate: float = 0.001
    clip: float | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    direction: Direction = Direction.FORWARD


class Attention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may look at what."""

    pattern: str = "full"

    def __post_init__(self) -> None:
        if self.pattern == "local:0":
            raise ValueError("pattern: the window must be 1 or more.")


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    dim: int = 256
    num_heads: int = 4
    dropout: float = 0.1
    norm: Literal["pre", "post"] = "pre"
    tied: bool = True
    activation: Literal["relu", "gelu"] | None = None
    attention: Attention = Attention()

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        if self.dim % self.num_heads:
            raise ValueError(f"{self.num_heads} heads cannot share {self.dim} dimensions evenly")


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str
    languages: tuple[str, ...] = ()
    lengths: tuple[int, ...] = (1, 256)
    patience: int | None = 3
    title: str | None = None
    batch_tokens: int | Literal["auto"] | None = "auto"


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training run.

    Args:
        seed (int): Where random numbers start.
    """

    seed: int = 1
    data: Data
    model: Model = Model()
    optimizer: Optimizer = Optimizer(learning_rate=0.5, clip=1.0)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, not {self.seed}")
        if self.seed == self.model.dim:
            raise ValueError("the seed cannot be the width")


class Bare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    attention: Attention = msgspec.field(default_factory=lambda: Attention(pattern="causal"))


RUN = Run(data=Data(path="pairs.tsv"))


def error_of_setting(*settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        apply_settings(RUN, settings)
    return error_text(caught.value)


def error_of_toml(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_toml(text, Run, name="ende/config.toml")
    return error_text(caught.value)


# --- words of the command line --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed=8_000", 8000),
        ("seed= 7 ", 7),
        ("optimizer.learning_rate=3e-4", 3e-4),
        ("optimizer.learning_rate=2", 2.0),
        ("optimizer.clip=none", None),
        ("optimizer.clip=0.5", 0.5),
        ("optimizer.clip=inf", math.inf),
        ("optimizer.name=cg", "cg"),
        ("optimizer.betas=0.8, 0.9", (0.8, 0.9)),
        ("optimizer.direction=backward", Direction.BACKWARD),
        ("model.tied=false", False),
        ("model.tied=True", True),
        ("model.attention.pattern=local:128", "local:128"),
        ("model.activation=gelu", "gelu"),
        ("data.path=a=b c.tsv", "a=b c.tsv"),
        ("data.languages=en,de", ("en", "de")),
        ("data.languages=en", ("en",)),
        ("data.languages=", ()),
        ("data.lengths=1, 8_000", (1, 8000)),
        ("data.patience=none", None),
        ("data.batch_tokens=auto", "auto"),
        ("data.batch_tokens=4_096", 4096),
        ("data.batch_tokens=none", None),
    ],
)
def test_a_word_is_read_by_the_type_of_its_setting(setting: str, value: object):
    changed: object = apply_settings(RUN, [setting])
    for key in setting.partition("=")[0].split("."):
        changed = getattr(changed, key)
    assert changed == value
    assert type(changed) is type(value)


def test_settings_change_a_copy_and_nothing_else():
    changed = apply_settings(RUN, ["model.dim=512"])
    assert changed == msgspec.structs.replace(RUN, model=Model(dim=512))
    assert RUN.model.dim == 256


def test_no_settings_change_nothing():
    assert apply_settings(RUN, []) == RUN


def test_a_later_setting_wins():
    assert apply_settings(RUN, ["seed=2", "model.dim=512", "seed=3"]).seed == 3


def test_settings_that_only_fit_together_may_come_in_any_order():
    assert apply_settings(RUN, ["model.num_heads=6", "model.dim=300"]).model.dim == 300


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "optimizer.lerning_rate=1",
            "unknown setting optimizer.lerning_rate.  Did you mean optimizer.learning_rate?  "
            "All: regard train --help-config optimizer",
        ),
        (
            "optimizer.zzz=1",
            "unknown setting optimizer.zzz.  All: regard train --help-config optimizer",
        ),
        (
            "learning_rate=1",
            "unknown setting learning_rate.  Did you mean optimizer.learning_rate?  "
            "All: regard train --help-config",
        ),
        (
            "model.learning_rate=1",
            "unknown setting model.learning_rate.  Did you mean optimizer.learning_rate?  "
            "All: regard train --help-config model",
        ),
        ("sed=1", "unknown setting sed.  Did you mean seed?  All: regard train --help-config"),
        ("seed.x=1", "unknown setting seed.x.  All: regard train --help-config seed"),
        (
            "optimiser.name=cg",
            "unknown section optimiser.  Did you mean optimizer?  All: regard train --help-config",
        ),
        ("zzz.name=cg", "unknown section zzz.  All: regard train --help-config"),
        (
            "model.atention.pattern=full",
            "unknown section model.atention.  Did you mean model.attention?  "
            "All: regard train --help-config model",
        ),
        (
            "optimizer=cg",
            "optimizer is a section, not a setting.  All: regard train --help-config optimizer",
        ),
        ("=1", "unknown setting .  All: regard train --help-config"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_known_one(setting: str, message: str):
    assert error_of_setting(setting) == message


def test_a_setting_without_a_value_says_how_to_write_it():
    assert error_of_setting("optimizer.learning_rate") == (
        'setting "optimizer.learning_rate" has no value.  Write optimizer.learning_rate=VALUE.'
    )


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("optimizer.learning_rate=fast", "a number was expected."),
        ("optimizer.learning_rate=nan", "a number was expected."),
        ("optimizer.learning_rate=", "a number was expected."),
        ("optimizer.clip=tight", "a number or none was expected."),
        ("seed=1.5", "a whole number was expected."),
        ("seed=none", "a whole number was expected."),
        ("model.tied=1", "true or false was expected."),
        ("model.norm=mid", "one of pre, post was expected."),
        ("model.norm=posst", "one of pre, post was expected.  Did you mean post?"),
        ("model.activation=rel", "one of relu, gelu, none was expected.  Did you mean relu?"),
        (
            "optimizer.direction=forwards",
            "one of forward, backward was expected.  Did you mean forward?",
        ),
        ("optimizer.betas=0.9", "a comma-separated list of 2 numbers was expected."),
        ("data.lengths=1,x", "a comma-separated list of whole numbers was expected."),
        ("data.batch_tokens=many", "a whole number, auto or none was expected."),
    ],
)
def test_a_value_of_the_wrong_type_says_what_was_expected(setting: str, expected: str):
    assert error_of_setting(setting) == f"{setting}: {expected}"


def test_a_whole_number_may_be_longer_than_a_float_can_be():
    assert apply_settings(RUN, ["seed=" + "9" * 400]).seed == 10**400 - 1
    message = error_of_toml(f"[optimizer]\nlearning_rate = {10**400}\n[data]\npath='a'")
    assert message.endswith("000: a number was expected.")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "model.dropout=1.5",
            "model.dropout=1.5: dropout must be at least 0 and below 1, not 1.5",
        ),
        ("model.num_heads=3", "model: 3 heads cannot share 256 dimensions evenly"),
        (
            "model.attention.pattern=local:0",
            "model.attention.pattern=local:0: the window must be 1 or more.",
        ),
        ("seed=-1", "seed=-1: seed must be at least 0, not -1"),
        ("seed=256", "the seed cannot be the width"),
    ],
)
def test_a_check_of_the_struct_names_the_setting_or_the_section(setting: str, message: str):
    assert error_of_setting(setting) == message


class Layered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Patterns by layer.

    Args:
        patterns: One, or one for each layer in turn.
        tags: Words.
        sizes: Numbers.
    """

    patterns: str | tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ("patterns=global:0,5", {"patterns": "global:0,5"}),
        ('patterns=["global:0,5", "full"]', {"patterns": ("global:0,5", "full")}),
        ("patterns=none", {}),
        ("patterns=[full]", {"patterns": "[full]"}),
        ("tags=[de],[fr]", {"tags": ("[de]", "[fr]")}),
        ("tags=['a,b', 'c']", {"tags": ("a,b", "c")}),
        ("sizes=[1, 2]", {"sizes": (1, 2)}),
    ],
)
def test_a_list_may_be_written_as_in_toml(setting: str, changes: dict[str, object]):
    found = apply_settings(Layered(), [setting])
    assert found == msgspec.structs.replace(Layered(), **changes)
    assert from_toml(to_toml(found), Layered, name="x") == found


def test_help_tells_that_a_list_beside_a_single_value_is_bracketed():
    assert describe(Layered).splitlines()[0] == (
        "patterns  none  text, a bracketed list of text or none  "
        "One, or one for each layer in turn."
    )


# --- TOML -----------------------------------------------------------------------------------------


def test_toml_has_a_table_for_a_section_and_leaves_out_none():
    assert to_toml(RUN) == (
        'seed = 1\n\n[data]\npath = "pairs.tsv"\nlanguages = []\n'
        "lengths = [\n    1,\n    256,\n]\npatience = 3\n"
        'batch_tokens = "auto"\n\n[model]\ndim = 256\nnum_heads = 4\ndropout = 0.1\n'
        'norm = "pre"\ntied = true\n\n[model.attention]\npattern = "full"\n\n'
        '[optimizer]\nname = "adamw"\nlearning_rate = 0.5\nclip = 1.0\n'
        'betas = [\n    0.9,\n    0.98,\n]\ndirection = "forward"\n'
    )


def test_none_is_written_where_it_is_not_the_default():
    text = to_toml(apply_settings(RUN, ["data.patience=none", "optimizer.clip=none"]))
    assert 'patience = "none"' in text
    assert 'clip = "none"' in text


def test_the_word_none_as_text_of_an_optional_setting_cannot_be_written():
    with pytest.raises(ConfigError) as caught:
        to_toml(Run(data=Data(path="none", title="none")))
    assert (
        error_text(caught.value)
        == 'data.title: the text "none" is taken, it means that nothing is set.'
    )


def test_toml_takes_defaults_of_the_outer_struct():
    run = from_toml('data.path = "a"\noptimizer.name = "cg"', Run, name="config.toml")
    assert run.optimizer == Optimizer(name="cg", learning_rate=0.5, clip=1.0)


def test_toml_takes_a_default_factory():
    assert from_toml("", Bare, name="config.toml") == Bare(attention=Attention(pattern="causal"))


def test_a_whole_number_serves_as_a_number_in_toml():
    run = from_toml('data.path = "a"\noptimizer.learning_rate = 1', Run, name="config.toml")
    assert isinstance(run.optimizer.learning_rate, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[optimizer]\nlerning_rate = 1",
            "unknown setting optimizer.lerning_rate.  Did you mean optimizer.learning_rate?  "
            "All: regard train --help-config optimizer",
        ),
        (
            "[optimiser]",
            "unknown section optimiser.  Did you mean optimizer?  All: regard train --help-config",
        ),
        (
            '"optimizer.name" = "cg"',
            'unknown setting "optimizer.name".  All: regard train --help-config',
        ),
        ("optimizer = 1", "optimizer is a section, not a setting.  "
         "All: regard train --help-config optimizer"),
        ("[[model]]", "model is a section, not a setting.  All: regard train --help-config model"),
        ("seed = 1", "setting data.path is missing.  All: regard train --help-config data"),
        ('[optimizer]\nlearning_rate = "fast"\n[data]\npath="a"',
         "optimizer.learning_rate=fast: a number was expected."),
        ('seed = "1"\n[data]\npath="a"', "seed=1: a whole number was expected."),
        ("seed = true\n[data]\npath='a'", "seed=true: a whole number was expected."),
        ("seed = 1979-05-27\n[data]\npath='a'", "seed=1979-05-27: a whole number was expected."),
        ("[model]\ndropout = 2.0\n[data]\npath='a'",
         "model.dropout=2.0: dropout must be at least 0 and below 1, not 2.0"),
    ],
)  # fmt: skip
def test_a_faulty_toml_names_the_file_and_the_setting(text: str, message: str):
    assert error_of_toml(text) == f"ende/config.toml: {message}"


def test_a_toml_syntax_error_names_the_line_and_shows_it():
    assert error_of_toml("seed = 1\n\n  learning_rate 3\n") == (
        "ende/config.toml:3: Expected '=' after a key in a key/value pair.  \"learning_rate 3\""
    )


def test_a_toml_cut_short_names_its_last_line():
    assert error_of_toml('seed = 1\nname = "abc') == (
        'ende/config.toml:2: Unterminated string.  "name = "abc"'
    )


numbers = st.floats(allow_nan=False)
words = st.text(max_size=8)
optional_words = st.none() | words.filter(lambda word: word != "none")
runs = st.builds(
    Run,
    seed=st.integers(min_value=257, max_value=2**62),
    data=st.builds(
        Data,
        path=words,
        languages=st.lists(words, max_size=3).map(tuple),
        lengths=st.lists(st.integers(-(2**62), 2**62), max_size=3).map(tuple),
        patience=st.none() | st.integers(0, 9),
        title=optional_words,
        batch_tokens=st.none() | st.just("auto") | st.integers(0, 9),
    ),
    model=st.builds(
        Model,
        num_heads=st.sampled_from([1, 2, 4]),
        dropout=st.floats(0, 1, exclude_max=True),
        norm=st.sampled_from(["pre", "post"]),
        tied=st.booleans(),
        activation=st.sampled_from(["relu", "gelu", None]),
        attention=st.builds(Attention, pattern=words),
    ),
    optimizer=st.builds(
        Optimizer,
        name=st.sampled_from(["adamw", "cg", "lbfgs"]),
        learning_rate=numbers,
        clip=st.none() | numbers,
        betas=st.tuples(numbers, numbers),
        direction=st.sampled_from(Direction),
    ),
)


@pytest.mark.slow
@given(runs)
def test_toml_comes_back_as_the_same_configuration(run: Run):
    assert from_toml(to_toml(run), Run, name="config.toml") == run


@pytest.mark.slow
@given(rate=numbers, betas=st.tuples(numbers, numbers), clip=st.none() | numbers)
def test_numbers_as_python_prints_them_come_back_exactly(rate, betas, clip):
    word = "none" if clip is None else repr(clip)
    settings = [
        f"optimizer.learning_rate={rate!r}",
        f"optimizer.betas={betas[0]!r},{betas[1]!r}",
        f"optimizer.clip={word}",
    ]
    optimizer = apply_settings(RUN, settings).optimizer
    assert optimizer == Optimizer(learning_rate=rate, betas=betas, clip=clip)


@pytest.mark.slow
@given(st.text())
def test_no_text_makes_anything_but_a_config_error(text: str):
    with pytest.raises(ConfigError):
        from_toml(text, Run, name="config.toml")
    with pytest.raises(ConfigError):
        apply_settings(RUN, [f"model.dim={text}.5x"])


# --- help -----------------------------------------------------------------------------------------


def test_help_of_a_section_has_aligned_columns_and_the_meaning_on_one_line():
    assert describe(Run, "optimizer") == (
        "optimizer  How the weights are changed.\n"
        "optimizer.name           adamw     adamw, cg, lbfgs                   The method.\n"
        "optimizer.learning_rate  0.5       number                             "
        "Peak rate, reached after the warm-up, then decayed: above 0.\n"
        "optimizer.clip           1.0       number or none                     "
        "Largest norm of a gradient.\n"
        "optimizer.betas          0.9,0.98  comma-separated list of 2 numbers  "
        "Decay of the two averages.\n"
        "optimizer.direction      forward   forward, backward                  "
        "Which way to walk.\n"
    )


def test_help_of_everything_begins_with_the_top_and_opens_sections_with_an_empty_line():
    lines = describe(Run).splitlines()
    assert lines[0].split("  ")[0] == "seed"
    assert lines[0].endswith("Where random numbers start.")
    assert lines[1:3] == ["", "data"]
    assert lines[lines.index("model.attention  What may look at what.") - 1] == ""


def test_help_marks_a_setting_without_a_default():
    line = describe(Run, "data.path").split()
    assert line == ["data.path", "required", "text"]


def test_help_of_a_struct_with_sections_only_keeps_their_names():
    assert describe(Bare).splitlines()[0] == "attention  What may look at what."


def test_help_shows_the_default_that_a_factory_makes():
    assert "causal" in describe(Bare, "attention")


def test_help_of_an_unknown_section_is_refused_with_the_closest_known_one():
    with pytest.raises(ConfigError) as caught:
        describe(Run, "optimiser")
    assert error_text(caught.value) == (
        "unknown section optimiser.  Did you mean optimizer?  All: regard train --help-config"
    )


def test_help_of_an_extended_struct_takes_meanings_of_both():
    class Child(Optimizer, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """More of it.

        Args:
            clip: Overridden.
        """

    text = describe(Child)
    assert "Overridden." in text
    assert "The method." in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("48,336", (48, 336)),
        ("12", (12,)),
        ("[48, 336]", (48, 336)),
        ("[]", ()),
        ("none", None),
    ],
)
def test_a_list_without_other_forms_is_written_with_commas(text, expected):
    config = bind(RunConfig, parse_settings([f"forecast.seasons={text}"]))
    assert config.forecast.seasons == expected


def test_a_word_in_a_list_of_numbers_is_refused():
    with pytest.raises(ConfigError, match="a comma-separated list of whole numbers or none"):
        bind(RunConfig, parse_settings(["forecast.seasons=12,week"]))
