"""Patterns as text: what is read, what is written, what is refused and how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.attention.patterns import (
    PATTERNS,
    Blocks,
    Causal,
    Full,
    Global,
    Hierarchical,
    Local,
    RandomBlocks,
    RelativeWindow,
    Strided,
    TopK,
)
from regard.attention.patterns.text import format_pattern, parse_pattern
from regard.errors import ConfigError

KNOWN = (
    "Known: full, causal, local:B, local:B,A, strided:S, global:P,P,..., random:SIZE:COUNT, "
    "top_k:K, hierarchical:B, joined by | and & and parentheses."
)
LOCAL = (
    "expected local:B or local:B,A (positions before, after), e.g. local:256, or both a fraction "
    "of the length, e.g. local:0.1."
)
RANDOM = (
    "expected random:SIZE:COUNT or random:SIZE:COUNT:SEED (positions in a block, blocks that each "
    "sees), e.g. random:64:3."
)
MASKS = st.recursive(
    st.one_of(
        st.just(Full()),
        st.just(Causal()),
        st.builds(Local, st.integers(0, 300), st.integers(0, 300)),
        st.builds(Strided, st.integers(1, 99)),
        st.builds(Global, st.lists(st.integers(0, 999), min_size=1)),
        st.builds(RelativeWindow, st.floats(1e-9, 1.0), st.floats(0.0, 1.0)),
        st.builds(RandomBlocks, st.integers(1, 99), st.integers(1, 9), st.integers(0, 9)),
    ),
    lambda inner: st.builds(
        lambda left, right, either: left | right if either else left & right,
        *(inner, inner, st.booleans()),
    ),
)
NO_MASKS = st.builds(
    lambda kind, size, causal: kind(2 * size, causal=causal),
    *(st.sampled_from([TopK, Hierarchical]), st.integers(1, 99), st.booleans()),
)


@pytest.mark.parametrize(
    ("text", "encoder", "decoder"),
    [
        ("full", Full(), Causal()),
        ("causal", Causal(), Causal()),
        ("local:256", Local(256, 256), Local(256, 0) & Causal()),
        ("local:128,64", Local(128, 64), Local(128, 64) & Causal()),
        ("strided:8", Strided(8), Strided(8) & Causal()),
        ("global:9,0,5", Global([0, 5, 9]), Global([0, 5, 9]) & Causal()),
        ("top_k:16", TopK(16), TopK(16, causal=True)),
        ("hierarchical:64", Hierarchical(64), Hierarchical(64, causal=True)),
        ("causal & local:2,0", Causal() & Local(2, 0), Causal() & Local(2, 0)),
        (
            "full|strided:2 & global:0",
            Full() | (Strided(2) & Global([0])),
            (Full() | (Strided(2) & Global([0]))) & Causal(),
        ),
        (
            "(full|strided:2)&global:0",
            (Full() | Strided(2)) & Global([0]),
            (Full() | Strided(2)) & Global([0]) & Causal(),
        ),
        ("local:0.1", RelativeWindow(0.1, 0.1), RelativeWindow(0.1, 0.0) & Causal()),
        ("local:.25,0", RelativeWindow(0.25, 0.0), RelativeWindow(0.25, 0.0) & Causal()),
        ("local:0,0.5", RelativeWindow(0.0, 0.5), RelativeWindow(0.0, 0.5) & Causal()),
        ("random:64:3", RandomBlocks(64, 3), RandomBlocks(64, 3) & Causal()),
        ("random:8:2:7", RandomBlocks(8, 2, seed=7), RandomBlocks(8, 2, seed=7) & Causal()),
        ("causal|local:1", Causal() | Local(1, 1), (Causal() | Local(1, 0)) & Causal()),
    ],
)
def test_a_text_is_read_for_encoders_and_decoders(text, encoder, decoder):
    assert parse_pattern(text) == encoder
    assert parse_pattern(text, is_decoder=True) == decoder


@pytest.mark.slow
@given(pattern=MASKS | NO_MASKS)
def test_what_is_written_reads_back_the_same(pattern):
    assert parse_pattern(format_pattern(pattern)) == pattern


@pytest.mark.slow
@given(pattern=MASKS | NO_MASKS)
def test_a_decoders_pattern_is_causal_and_reads_back_the_same(pattern):
    decoder = parse_pattern(format_pattern(pattern), is_decoder=True)
    assert all(term.after == 0 for term in decoder.resolve(30, 30).terms())
    assert parse_pattern(format_pattern(decoder), is_decoder=True) == decoder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "locl:256",
            'attention.pattern: "locl:256" is not a pattern.  Did you mean local:256?  ' + KNOWN,
        ),
        ("Full", f'attention.pattern: "Full" is not a pattern.  Did you mean full?  {KNOWN}'),
        ("causal|x", f'attention.pattern: "x" is not a pattern.  {KNOWN}'),
        ("", f"attention.pattern=: a pattern is missing.  {KNOWN}"),
        ("causal|", f"attention.pattern=causal|: a pattern is missing.  {KNOWN}"),
        (
            "local:0",
            "attention.pattern=local:0: the window must be 1 or more (or a fraction of the length, "
            "e.g. local:0.1).",
        ),
        (
            "local:0.0",
            "attention.pattern=local:0.0: the window must be 1 or more (or a fraction of the "
            "length, e.g. local:0.1).",
        ),
        ("local:-3", f"attention.pattern=local:-3: {LOCAL}"),
        ("local:0.1,5", f"attention.pattern=local:0.1,5: {LOCAL}"),
        ("local:0.1,0.1,0.1", f"attention.pattern=local:0.1,0.1,0.1: {LOCAL}"),
        ("local:1.", f"attention.pattern=local:1.: {LOCAL}"),
        (
            "local:1.5",
            "attention.pattern=local:1.5: RelativeWindow(before=1.5, after=1.5): both must be 0 to "
            "1, and one above 0.",
        ),
        ("random", f"attention.pattern=random: {RANDOM}"),
        ("random:64", f"attention.pattern=random:64: {RANDOM}"),
        ("random:64,3", f"attention.pattern=random:64,3: {RANDOM}"),
        ("random:64:3:1:1", f"attention.pattern=random:64:3:1:1: {RANDOM}"),
        (
            "random:64:0",
            "attention.pattern=random:64:0: RandomBlocks(size=64, per_row=0, seed=0): size and "
            "per_row must be 1 or more, seed 0 or more.",
        ),
        (
            "strided",
            "attention.pattern=strided: expected strided:S (every S-th key), e.g. strided:8.",
        ),
        (
            "strided:0",
            "attention.pattern=strided:0: Strided(stride=0): the stride must be 1 or more.",
        ),
        ("full:1", "attention.pattern=full:1: expected full, without numbers."),
        (
            "global:",
            "attention.pattern=global:: expected global:P,P,... (positions from 0), e.g. global:0.",
        ),
        ("(causal", "attention.pattern=(causal: a closing parenthesis is missing."),
        (
            "causal)",
            'attention.pattern=causal): ")" is not expected after a complete pattern.',
        ),
        (
            "causal|top_k:4",
            "attention.pattern=causal|top_k:4: TopK(4) chooses keys by score: it is not a mask and "
            "does not compose with | or &.",
        ),
    ],
)
def test_a_text_that_is_no_pattern_is_explained(text, message):
    with pytest.raises(ConfigError) as raised:
        parse_pattern(text)
    assert str(raised.value) == message


ODD_TEXTS = st.text(alphabet="fulcastridgnom:0,.12|&() ", max_size=12)
FORMS = (
    "full",
    " causal",
    "(full&causal)",
    "local:0",
    "local:.5,0",
    "strided:1",
    "global:0,0",
    "top_k:2",
)


@given(text=ODD_TEXTS | st.lists(st.sampled_from(FORMS), max_size=3).map("|".join))
def test_any_text_is_read_or_refused(text):
    try:
        pattern = parse_pattern(text)
    except ConfigError:
        return
    assert parse_pattern(format_pattern(pattern)) == pattern


def test_a_pattern_without_a_text_form_is_refused():
    with pytest.raises(ConfigError) as raised:
        format_pattern(Causal() | Blocks([[True]], 4))
    assert str(raised.value) == (
        f"Blocks(<1 x 1 blocks, 1 allowed>, size=4) has no text form.  {KNOWN}"
    )


def test_no_pattern_is_left_to_import_while_a_graph_is_traced():
    assert not any(isinstance(entry, str) for entry in PATTERNS._entries.values())
