"""Languages are told by script and function words, or left undecided."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.data.languages import (
    guess_language,
    guess_pair,
    has_spaces_between_words,
    is_language_code,
    require_pair,
)
from regard.data.parallel_corpus import ParallelCorpus
from regard.errors import ConfigError

SENTENCES = {
    "en": "The cat sat on the mat, and it is not clear to whom that mat belongs.",
    "de": "Die Katze sitzt auf der Matte, und es ist nicht klar, wem die Matte gehört.",
    "fr": "Le chat est assis sur le tapis et on ne sait pas à qui est ce tapis.",
    "es": "El gato está sentado en la alfombra y no se sabe de quién es la alfombra.",
    "it": "Il gatto è seduto sul tappeto e non si sa di chi sia il tappeto della casa.",
    "pt": "O gato está sentado no tapete e não se sabe de quem é o tapete da sala.",
    "nl": "De kat zit op de mat en het is niet duidelijk van wie de mat is.",
    "sv": "Katten sitter på mattan och det är inte klart vem som äger den.",
    "da": "Katten sidder på måtten efter at den er kommet ind, og der er ikke plads af den grund.",
    "no": "Katten sitter på matten etter at den er kommet inn, og må ikke flyttes av den grunn.",
    "fi": "Kissa istuu matolla, mutta ei ole selvää, että se on sen matto, joka on tässä.",
    "pl": "Kot siedzi na macie i nie wiadomo, czy jest to mata, która się do tego nadaje.",
    "cs": "Kočka sedí na rohožce a není jasné, že je to rohožka, který se na to hodí.",
    "tr": "Kedi bir paspasın üzerinde oturuyor ve bu paspas için çok büyük değil.",
    "ro": "Pisica stă pe un covor și nu este clar că acest covor este din casa sa.",
    "hu": "A macska a szőnyegen ül, és nem világos, hogy az a szőnyeg kié, vagy volt.",
    "zh": "猫坐在垫子上，不清楚这是谁的垫子。",
    "ja": "猫がマットの上に座っています。",
    "ko": "고양이가 매트 위에 앉아 있습니다.",
    "ru": "Кошка сидит на коврике, и это был её коврик.",
    "uk": "Кішка сидить на килимку, і це її килимок.",
    "bg": "Котката седи върху килима и не е ясно чий е той.",
    "be": "Кошка сядзіць на дыване, і гэта яе дыван, куплены ў краме.",
    "sr": "Мачка седи на простирци и није јасно чија је.",
    "el": "Η γάτα κάθεται στο χαλί.",
    "ar": "القطة تجلس على السجادة.",
    "fa": "گربه روی فرش نشسته است.",
    "he": "החתול יושב על השטיח.",
    "hi": "बिल्ली चटाई पर बैठी है।",
    "th": "แมวนั่งอยู่บนเสื่อ",
}


def pairs_of(source: str, target: str) -> ParallelCorpus:
    return ParallelCorpus(path="x", sources=[source], targets=[target], lines=[1])


@pytest.mark.parametrize(("language", "sentence"), SENTENCES.items())
def test_the_language_of_a_sentence_is_guessed(language, sentence):
    assert guess_language([sentence]) == language


def test_cyrillic_without_special_letters_is_russian():
    assert guess_language(["Привет, мир"]) == "ru"


def test_a_few_borrowed_characters_do_not_change_the_language():
    assert guess_language([SENTENCES["en"] + " α, β and γ; Привет!"]) == "en"
    assert guess_language(["使用 GTK+ 库的 GNOME 桌面邮件客户端の优良品牌产品介绍说明文字"]) == "zh"
    assert guess_language(["Библиотека для работы с XML в Python"]) == "ru"


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["", "123 + 4 = 127", "…"],
        ["Lorem ipsum dolor sit amet consectetur adipiscing elit"],
        ["Berlin", "Python 3"],
        ["English words here", "и русские слова"],
    ],
)
def test_texts_without_function_words_are_undecided(texts):
    assert guess_language(texts) is None


@pytest.mark.slow
@given(st.lists(st.text()))
def test_any_text_gets_an_answer(texts):
    assert is_language_code(guess_language(texts) or "en")
    assert has_spaces_between_words(texts) in (True, False)


def test_at_most_two_thousand_sentences_decide():
    assert guess_language([SENTENCES["de"]] * 2000 + [SENTENCES["fr"]] * 9000) == "de"


@pytest.mark.slow
def test_guessing_takes_no_longer_on_long_lists_and_long_lines():
    start = time.process_time()
    guess_language([SENTENCES["en"] * 1000] * 20_000)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "name",
    [
        "en-nl.tsv",
        "data/en_nl/train.tsv",
        "news.en-nl.tsv",
        "train_en_nl.tsv",
        "EN-NL.csv",
        "ennl.tsv",
        "news.ennl.txt",
        "mt/en-nl-clean/part-1.tsv",
    ],
)
def test_codes_in_the_name_of_file_or_folder_are_taken(name):
    assert guess_pair(pairs_of("42", "43"), name) == ("en", "nl")


@pytest.mark.parametrize(
    "name", ["data.tsv", "test.tsv", "my-pairs.tsv", "pt_BR.tsv", "x/tm.tsv", "-", "oversized.tsv"]
)
def test_other_names_are_not_taken_for_codes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert guess_pair(pairs_of("42", "43"), name) == (None, None)


def test_the_working_folder_may_name_the_languages(tmp_path, monkeypatch):
    (tmp_path / "en-fi").mkdir()
    monkeypatch.chdir(tmp_path / "en-fi")
    assert guess_pair(pairs_of("42", "43"), "train.tsv") == ("en", "fi")


def test_the_name_comes_before_the_text():
    danish = pairs_of(SENTENCES["en"], SENTENCES["da"])
    assert guess_pair(danish, "en-no.tsv") == ("en", "no")


def test_text_in_the_opposite_order_corrects_the_name():
    pairs = pairs_of(SENTENCES["de"], SENTENCES["en"])
    assert guess_pair(pairs, "en-de.tsv") == ("de", "en")


def test_text_in_two_other_languages_overrules_words_that_look_like_codes():
    pairs = pairs_of(SENTENCES["de"], SENTENCES["en"])
    assert guess_pair(pairs, "so_is_it.tsv") == ("de", "en")


def test_without_codes_in_the_name_the_text_decides_each_side():
    assert guess_pair(pairs_of(SENTENCES["en"], "42"), "pairs.tsv") == ("en", None)


@pytest.mark.parametrize("language", SENTENCES)
def test_words_are_separated_by_spaces_but_in_three_languages(language):
    has_spaces = language not in ("zh", "ja", "th")
    assert has_spaces_between_words([SENTENCES[language]]) is has_spaces


def test_nothing_counts_as_separated_by_spaces():
    assert has_spaces_between_words([]) is True


@pytest.mark.parametrize("text", ["deutsch", "", "x", "zz", "de-", "source", "de-CHENG"])
def test_other_words_are_no_language_codes(text):
    assert not is_language_code(text)


@pytest.mark.parametrize("languages", ["", "en-de", "EN-DE", "gsw-de", "en-pt-BR", "zh_Hant-en"])
def test_two_codes_are_a_pair_of_languages(languages):
    assert require_pair(languages) is None


@pytest.mark.parametrize(
    ("languages", "hint"),
    [
        ("english", ""),
        ("en", ""),
        ("english-german", "  Did you mean en-de?"),
        ("English to German", ""),
        ("en_de", "  Did you mean en-de?"),
        ("en,de", "  Did you mean en-de?"),
        pytest.param("en-de" + "_" * 200 + "!", "  Did you mean en-de?", id="underscores"),
    ],
)
def test_other_names_of_languages_are_refused(languages, hint):
    with pytest.raises(ConfigError) as caught:
        require_pair(languages)
    assert str(caught.value) == (
        f"data.languages={languages}: two codes of languages were expected, such as en-de.{hint}"
    )
