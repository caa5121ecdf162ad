"""Outputs of published encoder-decoders are the texts that ``transformers`` prints."""

import json
from typing import Any

import pytest
from tests.models.published_weights import spread
from tests.tasks.language_modeling.test_predictor import write_vocabulary

import regard

SIZES: dict[str, Any] = {
    "d_model": 16,
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 16),
    "max_position_embeddings": 40,
}


@pytest.mark.slow
def test_an_end_that_is_a_token_of_the_text_is_written(transformers, tmp_path):
    rows, end = write_vocabulary(tmp_path, begins=True), 33
    settings = tmp_path / "tokenizer_config.json"
    fields = json.loads(settings.read_text())
    del fields["eos_token"]
    settings.write_text(json.dumps(fields))
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": end, "decoder_start_token_id": 0}
    config = transformers.BartConfig(vocab_size=rows, forced_eos_token_id=None, **ids, **SIZES)
    model = transformers.BartForConditionalGeneration(config).eval()
    spread(model, seed=23)
    model.save_pretrained(tmp_path)
    opened = regard.load(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    source = tokenizer("the red cat", return_tensors="pt").input_ids
    (row,) = model.generate(source, num_beams=1, do_sample=False, max_new_tokens=12).tolist()
    assert row[-1] == end
    expected = tokenizer.decode(row, skip_special_tokens=True)
    assert opened.translate("the red cat", beam=1, max_length=12) == expected
    assert expected.endswith(tokenizer.decode([end]))
