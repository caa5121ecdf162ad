"""A section of several kinds: the kind is a setting, and begins with its own defaults."""

from __future__ import annotations

import msgspec
import pytest
from tests.settings.words import apply_settings

from regard.cli.wording import error_text
from regard.errors import ConfigError
from regard.settings.binding import describe, from_toml, to_toml


class Attention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may look at what."""

    pattern: str = "full"

    def __post_init__(self) -> None:
        if self.pattern == "local:0":
            raise ValueError("pattern: the window must be 1 or more.")


class Cell(msgspec.Struct, frozen=True, kw_only=True, tag_field="family", tag="cell"):
    """A recurrent model.

    Args:
        dim: Its size.
        gates: How many.
    """

    dim: int = 8
    gates: int = 3

    def __post_init__(self) -> None:
        if self.gates < 1:
            raise ValueError(f"gates must be 1 or more, not {self.gates}")


class Kernel(msgspec.Struct, frozen=True, kw_only=True, tag_field="family", tag="kernel"):
    """A convolutional model.

    Args:
        dim: Its size.
        width: Positions seen.
    """

    dim: int = 16
    width: int = 5
    attention: Attention = Attention()


class Several(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of one model or the other."""

    seed: int = 1
    model: Cell | Kernel = Cell(dim=4)


def several(*settings: str, base: Several = Several()) -> Several:  # noqa: B008 - immutable
    return apply_settings(base, settings)


def test_the_kind_of_a_section_begins_as_its_default():
    assert several().model == Cell(dim=4)
    assert several("model.gates=2").model == Cell(dim=4, gates=2)


def test_a_kind_that_is_set_begins_with_its_own_defaults():
    assert several("model.family=kernel").model == Kernel()
    assert several("model.width=3", "model.family=kernel").model == Kernel(width=3)


def test_a_kind_that_is_set_again_keeps_the_rest_of_the_section():
    base = several("model.family=kernel", "model.width=3")
    assert several("model.dim=2", base=base).model == Kernel(dim=2, width=3)
    assert several("model.family= kernel", base=base).model == Kernel(width=3)
    assert several("model.family=cell", base=base).model == Cell()


def test_a_section_within_a_kind_has_settings():
    found = several("model.family=kernel", "model.attention.pattern=causal")
    assert found.model == Kernel(attention=Attention(pattern="causal"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["model.family=kernels"],
            "model.family=kernels: one of cell, kernel was expected.  Did you mean kernel?",
        ),
        (["model.family=zzz"], "model.family=zzz: one of cell, kernel was expected."),
        (
            ["model.width=3"],
            "unknown setting model.width.  It goes with model.family=kernel.  "
            "All: regard train --help-config model",
        ),
        (
            ["model.family=kernel", "model.zzz=3"],
            "unknown setting model.zzz.  model.family=kernel has dim, width, attention.  "
            "All: regard train --help-config model",
        ),
        (
            ["model.gate=3"],
            "unknown setting model.gate.  Did you mean model.gates?  "
            "model.family=cell has dim, gates.  All: regard train --help-config model",
        ),
        (["model.gates=0"], "model.gates=0: gates must be 1 or more, not 0"),
        (
            ["model.attention.pattern=causal"],
            "unknown section model.attention.  It goes with model.family=kernel.  "
            "All: regard train --help-config model",
        ),
        (
            ["model.family.x=1"],
            "unknown setting model.family.x.  All: regard train --help-config model.family",
        ),
        (
            ["model=cell"],
            "model is a section, not a setting.  All: regard train --help-config model",
        ),
    ],
)
def test_what_does_not_fit_a_kind_is_refused_with_what_does(settings: list[str], message: str):
    with pytest.raises(ConfigError) as caught:
        several(*settings)
    assert error_text(caught.value) == message


@pytest.mark.parametrize("kind", ["cell", "kernel"])
def test_toml_of_a_section_tells_its_kind_and_comes_back(kind: str):
    run = several(f"model.family={kind}", "model.dim=32", "seed=5")
    text = to_toml(run)
    assert f'[model]\nfamily = "{kind}"\ndim = 32\n' in text
    assert from_toml(text, Several, name="config.toml") == run


def test_toml_without_a_kind_is_the_default_one():
    found = from_toml("[model]\ngates = 2", Several, name="config.toml")
    assert found == Several(model=Cell(dim=4, gates=2))


def test_toml_of_an_unknown_kind_names_the_file():
    with pytest.raises(ConfigError) as caught:
        from_toml("[model]\nfamily = 3", Several, name="x/config.toml")
    assert (
        error_text(caught.value)
        == "x/config.toml: model.family=3: one of cell, kernel was expected."
    )


def test_help_lists_every_kind_the_default_first():
    assert describe(Several, "model") == (
        "model  A recurrent model.\n"
        "model.family             cell  cell, kernel  Which of these the section describes.\n"
        "model.dim                4     whole number  Its size.\n"
        "model.gates              3     whole number  How many.\n"
        "\n"
        "model  (family=kernel)  A convolutional model.\n"
        "model.dim                16    whole number  Its size.\n"
        "model.width              5     whole number  Positions seen.\n"
        "\n"
        "model.attention  What may look at what.\n"
        "model.attention.pattern  full  text\n"
    )
