"""Documents longer than a window: settings by their length, and memory linear in it."""

import subprocess
import sys

import pytest
from tests.setup.decide import decide
from tests.tasks.summarization.conftest import SETTINGS, draw_documents, write_jsonl

from regard.hub.model_folder import ModelFolder
from regard.runs.run import train
from regard.setup.config import RunConfig
from regard.setup.facts import SourceLengths


def decide_for(*settings, longest, usual=None):
    """Decide the settings of a summarizer of documents of some lengths."""
    usual = longest if usual is None else usual
    sources = SourceLengths(usual=usual, longest=longest, longest_target=40)
    return decide(*settings, task="summarization", sources=sources)


SPARSE = "local:256|global:0"


@pytest.mark.parametrize(
    ("settings", "longest", "limit", "pattern"),
    [
        ((), 20, 512, None),
        ((), 512, 512, None),
        ((), 513, 1024, None),
        ((), 1024, 1024, None),
        ((), 1025, 2048, SPARSE),
        ((), 8192, 8192, SPARSE),
        ((), 99_999, 8192, SPARSE),
        (("data.max_source_length=900",), 5000, 900, None),
        (("data.max_source_length=9000",), 100, 9000, None),
        (("attention.encoder=full",), 5000, 8192, "full"),
        (("attention.pattern=strided:8",), 5000, 8192, None),
        (("model.family=lstm",), 5000, 8192, None),
        (("model.positions=learned",), 5000, 512, None),
    ],
)
def test_the_longest_document_decides_limit_and_pattern(settings, longest, limit, pattern):
    config = decide_for(*settings, longest=longest)
    assert (config.data.max_source_length, config.attention.encoder) == (limit, pattern)


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (("training.minutes=1",), 64),  # not even here four passes fit
        (("training.minutes=60",), 64),
        (("training.minutes=90",), 128),
        (("training.minutes=600",), 1024),
        ((), 1024),  # without a budget all of each document is read
        (("training.minutes=1", "data.max_source_length=1024"), 1024),
        (
            (
                "training.minutes=1",
                "model.positions=learned",
                "model.max_positions=32",
                "data.max_length=32",
            ),
            32,
        ),
    ],
)
def test_a_short_budget_reads_beginnings_of_documents_several_times(settings, limit):
    covered = {64: 0.25, 128: 0.4, 256: 0.6, 512: 0.95}
    sources = SourceLengths(usual=200, longest=1000, longest_target=40, covered=covered)
    config = decide(
        *settings, task="summarization", num_chars=10**7, num_tokens=2_000_000, sources=sources
    )
    assert config.data.max_source_length == limit


def test_an_answer_may_be_anywhere_and_its_text_is_read_whole():
    sources = SourceLengths(usual=200, longest=1000, longest_target=40, covered={64: 0.25})
    config = decide(
        "qa.kind=generative",
        "training.minutes=1",
        task="question-answering",
        num_tokens=2_000_000,
        sources=sources,
    )
    assert config.data.max_source_length == 1024


def test_a_few_long_documents_make_no_pattern_sparse():
    config = decide_for(longest=3000, usual=100.0)
    assert (config.data.max_source_length, config.attention.encoder) == (4096, None)
    assert decide_for(longest=3000, usual=1025.0).attention.encoder == SPARSE


def test_summaries_may_be_a_little_longer_than_those_of_training():
    assert decide_for(longest=9).search.max_length == 49
    assert decide_for("search.max_length=7", longest=9).search.max_length == 7
    config = decide_for("data.max_length=20", longest=9)
    assert config.search.max_length == 25


def test_other_data_has_no_limit_of_its_own():
    config = decide()
    assert config.data.max_source_length is None
    assert config.search.max_length is None


@pytest.mark.slow
def test_a_run_on_long_documents_reads_them_whole_with_a_sparse_encoder(tmp_path):
    rows = draw_documents(12, num_sentences=400)
    path = write_jsonl(tmp_path / "long.jsonl", rows)
    events = []
    train(
        path,
        tmp_path / "m",
        settings=(*SETTINGS, "training.epochs=1"),
        report=lambda event: events.append(str(event)),
    )
    config = ModelFolder(tmp_path / "m").read_config(RunConfig)
    assert config.data.max_source_length == 2048
    assert config.attention.encoder == SPARSE
    assert not [event for event in events if "cut off" in event]


_MEASURE = """
import resource, sys
import torch
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.layers.attention_config import AttentionConfig
from regard.models import ENCODER_DECODERS, TransformerConfig
from regard.setup.config import DataConfig, RunConfig
from regard.tasks.summarization.predictor import Summarizer

torch.set_num_threads(1)
words = ["rain", "snow", "wind", "sun"]
tokenizer = Tokenizer.train(words * 50, TokenizerConfig(vocab_size=300))
sizes = TransformerConfig(
    num_encoder_layers=2, num_decoder_layers=1, dim=64, num_heads=4, hidden_dim=64
)
attention = AttentionConfig(encoder="local:256|global:0")
model = ENCODER_DECODERS["transformer"].model(sizes, len(tokenizer), attention).eval()
config = RunConfig(data=DataConfig(max_source_length=16_000))
summarizer = Summarizer(model, tokenizer, config)
for num_words in (500, 2_000, 4_000, 8_000):
    document = " ".join(words[index % 4] for index in range(num_words))
    assert len(tokenizer.encode([document])[0]) >= num_words
    summarizer.summarize(document, beam=2, max_length=4)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_grows_linearly_with_the_length_of_a_document():
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True
    )
    _, *kilobytes = map(int, done.stdout.split())
    half, whole = kilobytes[1] - kilobytes[0], kilobytes[2] - kilobytes[1]
    # Twice the tokens are added in the second step; all pairs would take 12 times more, not twice.
    assert whole < 4 * max(half, 20_000)
    assert kilobytes[2] < 4_000_000
