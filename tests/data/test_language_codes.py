"""Languages by codes and names, among the codes of a model."""

from __future__ import annotations

import pytest

from regard.data.language_codes import find_language, names_of, short_codes
from regard.errors import ConfigError

NLLB = ["apc_Arab", "arb_Arab", "deu_Latn", "fra_Latn", "nob_Latn", "pbt_Arab", "pes_Arab"]
NLLB += ["por_Latn", "prs_Arab", "srp_Cyrl", "tgl_Latn", "zho_Hans", "zho_Hant", "zsm_Latn"]
M2M100 = ["de", "fr", "no", "ns", "pt", "tl", "zh"]
MBART50 = ["de_DE", "fa_IR", "fr_XX", "pt_XX", "zh_CN"]


@pytest.mark.parametrize(
    ("codes", "name", "code"),
    [
        (NLLB, "fr", "fra_Latn"),
        (NLLB, "FRA", "fra_Latn"),
        (NLLB, "French", "fra_Latn"),
        (NLLB, "fr-CA", "fra_Latn"),
        (NLLB, "fra_latn", "fra_Latn"),
        (NLLB, "zh-TW", "zho_Hant"),
        (NLLB, "zh_CN", "zho_Hans"),
        (NLLB, "ar", "arb_Arab"),
        (NLLB, "ms", "zsm_Latn"),
        (NLLB, "fa", "pes_Arab"),
        (NLLB, "prs", "prs_Arab"),
        (NLLB, "ps", "pbt_Arab"),
        (NLLB, "no", "nob_Latn"),
        (NLLB, "fil", "tgl_Latn"),
        (M2M100, "fra_Latn", "fr"),
        (M2M100, "nb", "no"),
        (M2M100, "nso", "ns"),
        (M2M100, "Chinese", "zh"),
        (MBART50, "en_XX", None),
        (MBART50, "pt-BR", "pt_XX"),
        (MBART50, "de_AT", "de_DE"),
        (MBART50, "Persian", "fa_IR"),
    ],
)
def test_a_language_is_found_by_any_of_its_codes_and_by_its_name(codes, name, code):
    if code is None:
        with pytest.raises(ConfigError, match="not among the languages"):
            find_language(name, codes)
    else:
        assert find_language(name, codes) == code


@pytest.mark.parametrize(
    ("codes", "name", "message"),
    [
        (NLLB, "zh", "zh: this model has zho_Hans, zho_Hant.  Name one of them."),
        (NLLB, "sr-Latn", "sr-Latn: this model has srp_Cyrl.  Name one of them."),
        (MBART50, "zh-TW", "zh-TW: this model has zh_CN.  Name one of them."),
        (
            MBART50,
            "greman",
            f"greman: not among the languages of this model: {', '.join(MBART50)}.  Did you mean "
            "de_DE?",
        ),
    ],
)
def test_nothing_is_guessed_where_several_may_be_meant(codes, name, message):
    with pytest.raises(ConfigError) as caught:
        find_language(name, codes)
    assert str(caught.value) == message


@pytest.mark.parametrize("codes", [NLLB, M2M100, MBART50])
def test_short_codes_mean_the_codes_they_are_of(codes):
    short = short_codes(codes)
    assert [find_language(name, codes) for name in short.values()] == codes
    assert len(set(short.values())) == len(codes)


def test_each_name_that_is_shown_is_understood():
    names = names_of(NLLB)
    assert names["prs_Arab"] == "Dari"
    assert {code: find_language(name.upper(), NLLB) for code, name in names.items()} == {
        code: code for code in names
    }
    two = ["aka_Latn", "twi_Latn"]
    with pytest.raises(ConfigError, match="this model has aka_Latn, twi_Latn"):
        find_language(names_of(two)["twi_Latn"], two)


def test_a_language_in_two_scripts_has_them_in_its_names():
    names = names_of(["zho_Hans", "zho_Hant"])
    assert names == {"zho_Hans": "Chinese (Simplified)", "zho_Hant": "Chinese (Traditional)"}
