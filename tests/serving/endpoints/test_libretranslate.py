"""Clients of LibreTranslate speak to the service of a translator."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec
import pytest
from tests.explain import predictors
from tests.serving.running_service import running
from tests.tasks.translation.published_languages import nllb_folder

import regard
from regard.generation.beam_search_config import BeamSearchConfig
from regard.serving.running_model import languages_of
from regard.setup.config import DataConfig, RunConfig

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_one_text_is_translated_to_one(translating):
    body = {"q": "the cat sat", "source": "en", "target": "de", "format": "text", "api_key": ""}
    answer = translating.post("/translate", body)
    assert answer.json == {"translatedText": translating.twin.translate("the cat sat")}


def test_several_texts_are_translated_to_several_with_their_language(translating):
    texts = ["the cat sat on the mat", "a dog ran"]
    body = {"q": texts, "source": "auto", "target": "de", "alternatives": 2}
    answer = translating.post("/translate", body).json
    assert answer["translatedText"] == translating.twin.translate(texts)
    assert [len(others) for others in answer["alternatives"]] == [2, 2]
    assert answer["detectedLanguage"][0] == {"confidence": 100.0, "language": "en"}


def test_a_form_is_read_as_json_is(translating):
    form = urlencode({"q": "a dog ran", "source": "en", "target": "de", "alternatives": "1"})
    answer = translating.ask("POST", "/translate", form.encode(), FORM).json
    assert answer["translatedText"] == translating.twin.translate("a dog ran")
    assert len(answer["alternatives"]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "fr"}, "fr is not supported: this model writes de."),
        ({"source": "fr"}, "fr is not supported: this model reads en."),
        ({"format": "html"}, "format html is not supported: this model translates text."),
        ({"alternatives": -1}, "alternatives must be 0 or more."),
        ({"targt": "de"}, "unknown field targt."),
    ],
)
def test_what_cannot_be_obeyed_is_refused_in_its_form(translating, changes, message):
    body = {"q": "a dog ran", "source": "en", "target": "de", **changes}
    answer = translating.post("/translate", body)
    assert answer.status == 400
    assert answer.json["error"].startswith(message)


def test_the_languages_are_listed(translating):
    assert translating.get("/languages").json == [
        {"code": "en", "name": "English", "targets": ["de"]},
        {"code": "de", "name": "German", "targets": []},
    ]


def test_a_language_is_detected_or_said_to_be_uncertain(translating):
    german = translating.post("/detect", {"q": "das ist der Hund und die Katze ist nicht da"})
    nothing = translating.post("/detect", {"q": "1234"})
    assert german.json == [{"confidence": 100.0, "language": "de"}]
    assert nothing.json == [{"confidence": 0.0, "language": "en"}]


def test_a_model_whose_languages_are_unknown_has_no_such_api():
    with running(predictors.translator()) as client:
        assert client.get("/languages").status == 404


def test_tags_choose_among_several_languages():
    translator = predictors.translator()
    words = translator.tokenizer
    words.__dict__["language_tags"] = (">>pt-BR<<", "<de>")
    translator.config = RunConfig(
        model=predictors.TRANSFORMER, data=DataConfig(languages="en-de,pt-BR,fr")
    )
    assert languages_of(translator).tags == {"de": "", "pt-BR": "", "fr": ""}


def test_a_form_in_another_encoding_is_refused(translating):
    answer = translating.ask("POST", "/translate", b"q=caf%E9&source=en&target=de", FORM)
    assert (answer.status, answer.json) == (400, {"error": "the form is not in UTF-8."})


def test_alternatives_widen_a_beam_that_is_narrower():
    body = {"q": "a dog ran", "source": "en", "target": "de", "alternatives": 2}
    translator = predictors.translator()
    translator.config = msgspec.structs.replace(translator.config, search=BeamSearchConfig(beam=1))
    with running(translator, languages="en-de") as client:
        answer = client.post("/translate", body)
    assert answer.status == 200, answer.json
    assert len(answer.json["alternatives"]) == 2


@pytest.fixture(scope="module")
def many_languages(tmp_path_factory):
    folder = nllb_folder(tmp_path_factory.mktemp("nllb"))
    with running(regard.load(folder)) as service:
        yield service, regard.load(folder)


@pytest.mark.slow
def test_a_model_of_many_languages_reads_and_writes_those_of_a_request(many_languages):
    service, twin = many_languages
    for source, target in (("de", "fr"), ("zh-Hans", "de"), ("deu_Latn", "French")):
        body = {"q": "a red house", "source": source, "target": target}
        translated = twin.translate("a red house", lang=f"{source}-{target}")
        assert service.post("/translate", body).json == {"translatedText": translated}
    auto = service.post("/translate", {"q": ["the dog is a cat"], "source": "auto", "target": "fr"})
    assert auto.json["detectedLanguage"] == [{"confidence": 100.0, "language": "en"}]
    assert auto.json["translatedText"] == [twin.translate("the dog is a cat", lang="en-fr")]


@pytest.mark.slow
def test_languages_of_a_model_of_many_are_listed_by_their_short_codes(many_languages):
    service, _ = many_languages
    codes = ["de", "en", "fr", "zh-Hans", "zh-Hant"]
    listed = service.get("/languages").json
    assert [entry["code"] for entry in listed] == codes
    assert all(entry["targets"] == codes for entry in listed)
    refused = service.post("/translate", {"q": "a", "source": "en", "target": "zh"})
    assert refused.json["error"].startswith("zh is not supported: this model writes de, en, fr")


@pytest.mark.slow
def test_the_other_api_takes_tags_and_languages(many_languages):
    service, twin = many_languages
    translated = twin.translate("a dog", lang="de-fr")
    for body in ({"text": "<de-fr> a dog"}, {"text": "a dog", "lang": "de-fr"}):
        assert service.post("/v1/translate", body).json["outputs"][0]["text"] == translated
    answer = service.post("/v1/translate", {"text": "a dog"})
    assert answer.status in (400, 422)
    assert "the language to be written is not named" in answer.json["detail"]
