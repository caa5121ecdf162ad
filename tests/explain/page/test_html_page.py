"""The page of an explanation as a file: its size, its safety, and its packed numbers."""

from __future__ import annotations

import base64
import json
import re
import zlib

import msgspec
import numpy as np
import pytest
from tests.explain import sample_explanations as samples

from regard.errors import ConfigError
from regard.explain.document import AttentionRow
from regard.explain.page import page_html, save_page
from regard.explain.page.packed_attention import pack_attention
from regard.explain.page.packed_scores import pack_scores


def payload(page: str) -> dict:
    """What a browser reads from the page."""
    return json.loads(re.search(r'id="payload">(.*?)</script>', page, re.DOTALL)[1])


def planes(data: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=np.uint8)


def test_the_page_of_a_sentence_of_20_tokens_is_small():
    words = [f"word{number}" for number in range(19)]
    explanation = samples.translation(words, words, num_layers=6, num_heads=8)
    picture = msgspec.structs.replace(explanation.model, picture="x" * 36_000)  # as of the demo
    explanation = msgspec.structs.replace(explanation, model=picture)
    assert len(page_html(explanation).encode()) < 300_000


@pytest.mark.slow
def test_the_page_of_512_tokens_with_12_times_12_heads_is_below_two_megabytes():
    size = len(page_html(samples.long_text()).encode())
    assert 500_000 < size < 2_000_000


def test_no_text_ends_the_element_of_the_data():
    page = page_html(samples.translation(samples.MARKUP, samples.MARKUP, num_layers=1))
    assert "window.hacked=1" in page
    assert page.count("<script") == 2  # the data, and the modules
    assert payload(page)["document"]["input"][0]["text"] == samples.MARKUP[0]


def test_the_title_of_the_window_is_text():
    page = page_html(samples.translation(samples.MARKUP, samples.MARKUP, num_layers=1))
    title = re.search(r"<title>(.*?)</title>", page)[1]
    assert title.startswith("regard · ende · &lt;script&gt;")


def test_the_page_names_its_charset_first_and_allows_no_request():
    head = page_html(samples.forecast())[:600]
    assert head.index('<meta charset="utf-8">') < head.index("Content-Security-Policy")
    assert "default-src 'none'; script-src 'sha256-" in head


def test_a_page_without_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"missing/page\.html: cannot be written"):
        save_page(samples.forecast(), tmp_path / "missing" / "page.html")


def test_packed_attention_has_the_keys_the_weights_and_the_rest_of_each_row():
    rows = [AttentionRow([0, 3], [700, 200], 100), AttentionRow([2], [1000], 0)]
    (layer,) = samples.attention_maps("encoder", 1, 1, 2, 400)
    layer = type(layer)(
        **{**{f: getattr(layer, f) for f in layer.__struct_fields__}, "heads": [rows]}
    )
    (packed,) = pack_attention([layer])
    columns = [  # each its low bytes, then its high bytes
        *(2, 1, 0, 0),
        *(0, 3, 2, 0, 0, 0),
        *(700 & 255, 200, 1000 & 255, 2, 0, 3),
        *(100, 0, 0, 0),
    ]
    assert planes(packed.rows).tolist() == columns
    assert planes(packed.runs).tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 144, 144, 1, 1]


def test_rows_keep_their_largest_weights_where_all_would_be_too_much():
    maps = samples.attention_maps("encoder", 1, 4, 64, 64)
    whole = pack_attention(maps)[0]
    (packed,) = pack_attention(maps, len(whole.rows) // 3)
    assert packed.most < whole.most == 16
    counts = planes(packed.rows)[: 4 * 64].astype(int)
    assert counts.max() == packed.most
    weights_and_rest = planes(packed.rows)[2 * 4 * 64 + 2 * counts.sum() :].astype(int)
    total = counts.sum()
    weights = weights_and_rest[:total] + 256 * weights_and_rest[total : 2 * total]
    rest = weights_and_rest[2 * total :][: 4 * 64] + 256 * weights_and_rest[2 * total + 4 * 64 :]
    sums = np.add.reduceat(weights, np.cumsum(counts) - counts) + rest
    assert np.abs(sums - 1000).max() <= 8  # thousandths, rounded


def test_layers_with_the_same_pattern_share_their_runs():
    first, second = pack_attention(samples.attention_maps("encoder", 2, 1, 8, 8))
    assert isinstance(first.runs, str)
    assert second.runs == 0


def test_packed_scores_are_within_a_thousandth_of_the_largest():
    rng = np.random.default_rng(1)
    scores = [[None, *map(float, rng.normal(size=99))] for _ in range(3)]
    packed = pack_scores(scores)
    low, high = planes(packed.data).reshape(2, 3, 100).astype(np.int64)
    integers = (low + 256 * high + 2**15) % 2**16 - 2**15
    assert (integers[:, 0] == -(2**15)).all()
    unpacked = integers[:, 1:] / (2**15 - 1) * np.array(packed.largest)[:, None]
    assert np.abs(unpacked - np.array([row[1:] for row in scores])).max() < 1e-3
