from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.published_weights import assert_near, fill, padded_ids, spread

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models import CHECKPOINT_FORMATS
from regard.models.bert.model import Bert, BertConfig

PUBLISHED = {
    name: CHECKPOINT_FORMATS[name]
    for name in ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra")
}

WITHOUT_POOLER = ("distilbert", "electra")
VOCAB = 50
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-2,
}
SMALL_DISTILBERT = {
    "vocab_size": VOCAB,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 3,
    "hidden_dim": 40,
    "max_position_embeddings": 40,
}


def load(model_type: str, theirs):
    """Build our model of the same weights."""
    bert_format, fields = PUBLISHED[model_type], theirs.config.to_dict()
    config = bert_format.adapt(bert_format.read(fields), set(theirs.state_dict()))
    ours = Bert(config, fields["vocab_size"]).eval()
    return ours, fill(ours, bert_format, config, theirs)


@pytest.fixture(scope="module")
def transformers():
    package = pytest.importorskip("transformers")
    assert package.BertForMaskedLM  # imported on first use, which takes its time
    return package


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 3, 4, 6]),
    activation=st.sampled_from(["gelu", "gelu_new", "relu"]),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
)
def test_logits_of_bert_are_those_of_transformers(transformers, layers, heads, activation, lengths):
    changes = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_act": activation}
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(**SMALL | changes)).eval()
    spread(theirs)
    ours, left_over = load("bert", theirs)
    assert not left_over
    ids = padded_ids(VOCAB, lengths, pad_id=0)
    segments = (torch.arange(ids.shape[1]) > 2).long().expand_as(ids)
    expected = theirs(ids, attention_mask=(ids != 0).long(), token_type_ids=segments).logits
    assert_near(ours(ids, segments=segments), expected, ids, pad_id=0)


def test_segments_left_out_are_the_first(transformers):
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)).eval()
    spread(theirs)
    ours, _ = load("bert", theirs)
    ids = padded_ids(VOCAB, (6, 4), pad_id=0)
    assert_near(ours(ids), theirs(ids, attention_mask=(ids != 0).long()).logits, ids, pad_id=0)


@pytest.mark.parametrize(
    ("name", "activation", "pad_id", "lengths"),
    [
        ("Roberta", "gelu", 1, (8, 3)),
        ("Roberta", "relu", 4, (6,)),
        ("Roberta", "gelu", 0, (5, 1)),
        ("XLMRoberta", "relu", 1, (7, 2)),
        ("Camembert", "gelu_new", 3, (4, 6)),
    ],
)
def test_logits_of_roberta_are_those_of_transformers(
    transformers, name, activation, pad_id, lengths
):
    changes = {"hidden_act": activation, "pad_token_id": pad_id, "type_vocab_size": 1}
    config = getattr(transformers, f"{name}Config")(**SMALL | changes)
    theirs = getattr(transformers, f"{name}ForMaskedLM")(config).eval()
    spread(theirs)
    ours, left_over = load(config.model_type, theirs)
    assert not left_over
    ids = padded_ids(VOCAB, lengths, pad_id=pad_id)
    expected = theirs(ids, attention_mask=(ids != pad_id).long()).logits
    assert_near(ours(ids), expected, ids, pad_id=pad_id)


@pytest.mark.parametrize(("activation", "lengths"), [("gelu", (8, 3)), ("relu", (6,))])
def test_logits_of_distilbert_are_those_of_transformers(transformers, activation, lengths):
    config = transformers.DistilBertConfig(**SMALL_DISTILBERT, activation=activation)
    theirs = transformers.DistilBertForMaskedLM(config).eval()
    spread(theirs)
    ours, left_over = load("distilbert", theirs)
    assert not left_over
    ids = padded_ids(VOCAB, lengths, pad_id=0)
    assert_near(ours(ids), theirs(ids, attention_mask=(ids != 0).long()).logits, ids, pad_id=0)


@pytest.mark.parametrize(("size", "activation"), [(7, "gelu"), (24, "relu"), (40, "gelu_new")])
def test_logits_of_electra_are_those_of_transformers(transformers, size, activation):
    changes = {"embedding_size": size, "hidden_act": activation}
    config = transformers.ElectraConfig(**SMALL | changes)
    theirs = transformers.ElectraForMaskedLM(config).eval()
    spread(theirs)
    ours, left_over = load("electra", theirs)
    assert not left_over
    assert (ours.embedding.projection is None) == (size == SMALL["hidden_size"])
    ids = padded_ids(VOCAB, (8, 3), pad_id=0)
    segments = (torch.arange(ids.shape[1]) > 2).long().expand_as(ids)
    expected = theirs(ids, attention_mask=(ids != 0).long(), token_type_ids=segments).logits
    assert_near(ours(ids, segments=segments), expected, ids, pad_id=0)


def test_an_electra_that_finds_replaced_tokens_is_read_without_its_head(transformers):
    theirs = transformers.ElectraForPreTraining(transformers.ElectraConfig(**SMALL)).eval()
    spread(theirs)
    ours, left_over = load("electra", theirs)
    assert not left_over
    assert not ours.config.has_mlm_head
    ids = padded_ids(VOCAB, (5,), pad_id=0)
    expected = theirs.electra(ids).last_hidden_state
    assert_near(ours.hidden_states(ids), expected, ids, pad_id=0)


def test_sizes_that_an_electra_leaves_out_are_those_of_transformers(transformers):
    ours, theirs = PUBLISHED["electra"].read({}), transformers.ElectraConfig()
    assert (ours.embedding_dim, ours.dim) == (theirs.embedding_size, theirs.hidden_size)
    assert (ours.num_heads, ours.hidden_dim) == (
        theirs.num_attention_heads,
        theirs.intermediate_size,
    )
    assert PUBLISHED["electra"].read({"embedding_size": 256}).embedding_dim is None


@pytest.mark.parametrize(
    ("model_type", "name", "fields"),
    [
        ("bert", "Bert", SMALL),
        ("electra", "Electra", SMALL | {"embedding_size": 9}),
        ("roberta", "Roberta", SMALL),
        ("distilbert", "DistilBert", SMALL_DISTILBERT),
    ],
)
def test_states_and_vector_of_a_bare_encoder_are_those_of_transformers(
    transformers, model_type, name, fields
):
    theirs = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**fields))
    spread(theirs.eval())
    ours, left_over = load(model_type, theirs)
    assert not left_over
    assert not ours.config.has_mlm_head
    pad_id = ours.config.pad_id
    ids = padded_ids(VOCAB, (7, 4), pad_id=pad_id)
    expected = theirs(ids, attention_mask=(ids != pad_id).long())
    hidden = ours.hidden_states(ids)
    assert_near(hidden, expected.last_hidden_state, ids, pad_id=pad_id)
    assert ours.config.has_pooler == (model_type not in WITHOUT_POOLER)
    if ours.config.has_pooler:
        torch.testing.assert_close(
            ours.pooled(hidden, ids), expected.pooler_output, rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("model_type", PUBLISHED)
@pytest.mark.parametrize("has_head", [True, False])
def test_fields_written_open_in_transformers_and_read_back_the_same(
    transformers, model_type, has_head
):
    of_roberta = {"position_offset": 4, "pad_id": 3, "num_segments": 1}
    of_others = {"bert": {}, "distilbert": {"num_segments": 0}, "electra": {"embedding_dim": 6}}
    changes = of_others.get(model_type, of_roberta)
    config = BertConfig(dim=24, num_heads=3, has_mlm_head=has_head, **changes)
    bert_format = PUBLISHED[model_type]
    fields = bert_format.write(config, VOCAB)
    opened = transformers.AutoConfig.for_model(**fields)
    theirs = getattr(transformers, fields["architectures"][0])(opened)
    assert bert_format.adapt(bert_format.read(opened.to_dict()), set(theirs.state_dict())) == (
        msgspec.structs.replace(
            config, has_pooler=not has_head and model_type not in WITHOUT_POOLER
        )
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"position_embedding_type": "relative_key"},
            'config.json: position_embedding_type="relative_key": no such variant here, '
            'position_embedding_type="absolute" alone is computed.',
        ),
        (
            {"is_decoder": True},
            "config.json: is_decoder=true: no such variant here, is_decoder=false alone is "
            "computed.",
        ),
        (
            {"tie_word_embeddings": False},
            "config.json: tie_word_embeddings=false: no such variant here, "
            "tie_word_embeddings=true alone is computed.",
        ),
        (
            {"hidden_act": "silu"},
            "config.json: hidden_act=silu: no such variant here, known are gelu, gelu_python, "
            "gelu_pytorch_tanh, gelu_new, gelu_fast, gelu_python_tanh, relu.",
        ),
        (
            {"hidden_size": "768"},
            "config.json: hidden_size='768': expected a value such as 768, the default of "
            "transformers.",
        ),
    ],
)
def test_what_is_not_computed_is_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        PUBLISHED["bert"].read(fields)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("bert", {"norm": "pre"}, "model.norm=pre: bert checkpoints have post only."),
        (
            "roberta",
            {"position_offset": 0},
            "model.position_offset=0: roberta checkpoints have 1 only.",
        ),
        (
            "bert",
            {"num_segments": 0},
            "model.num_segments=0: bert checkpoints have 1 or more.",
        ),
        (
            "distilbert",
            {"num_segments": 2},
            "model.num_segments=2: distilbert checkpoints have 0 only.",
        ),
        (
            "bert",
            {"embedding_dim": 8},
            "model.embedding_dim=8: bert checkpoints have none only.",
        ),
        (
            "bert",
            {"activation": "swiglu"},
            "model.activation=swiglu: bert checkpoints have gelu, gelu_tanh, relu only.",
        ),
    ],
)
def test_a_model_that_a_format_cannot_express_is_not_written(model_type, changes, message):
    with pytest.raises(ConfigError) as caught:
        PUBLISHED[model_type].write(BertConfig(**changes), VOCAB)
    assert str(caught.value) == message


def small(**changes) -> Bert:
    torch.manual_seed(0)
    sizes = {"num_layers": 1, "dim": 8, "num_heads": 2, "hidden_dim": 16, "max_positions": 12}
    return Bert(BertConfig(**sizes | changes), 20).eval()


def test_logits_without_a_head_are_refused():
    with pytest.raises(ConfigError) as caught:
        small(has_mlm_head=False)(torch.tensor([[1, 2]]))
    assert str(caught.value) == (
        "has_mlm_head=false: the model has hidden states and vectors, no token logits.  "
        "Use hidden_states(ids) or pooled(hidden, ids), or load weights that hold the head."
    )


def test_segments_for_a_model_without_them_are_refused():
    ids = torch.tensor([[1, 2]])
    with pytest.raises(ConfigError) as caught:
        small(num_segments=0)(ids, segments=torch.zeros_like(ids))
    assert str(caught.value) == (
        "segments: the model has no table of them (num_segments=0).  Leave them out."
    )


def test_patterns_of_a_decoder_are_refused():
    with pytest.raises(ConfigError) as caught:
        Bert(BertConfig(num_layers=1), 20, AttentionConfig(cross="local:4"))
    assert str(caught.value) == (
        "attention.cross=local:4: bert has no decoder.  "
        "Leave it out; attention.pattern is that of its tokens."
    )


def test_the_mean_of_a_text_leaves_its_padding_out():
    model = small(pooling="mean")
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    hidden = model.hidden_states(ids)
    expected = torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)])
    torch.testing.assert_close(model.pooled(hidden, ids), expected)


def test_the_padding_id_within_a_text_is_a_token():
    assert small().lengths(torch.tensor([[3, 0, 5, 0], [0, 0, 0, 0]])).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 10, "num_heads": 3}, "dim must be a multiple of num_heads (3): 10"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"num_layers": 0}, "num_layers must be 1 or more, not 0"),
        ({"pad_id": -1}, "pad_id must be 0 or more, not -1"),
        ({"epsilon": 0.0}, "epsilon must be above 0, not 0.0"),
    ],
)
def test_dimensions_are_checked(changes, message):
    with pytest.raises(ValueError) as caught:
        BertConfig(**changes)
    assert str(caught.value) == message


def test_a_summary_tells_the_dimensions():
    assert BertConfig().summary(AttentionConfig()) == (
        "12 layers, d=768, 12 heads, ff 3072, post-norm, attention full"
    )


@pytest.mark.parametrize(("positions", "longest"), [(128, 128), (512, 256)])
def test_the_longest_text_has_positions(positions, longest):
    """``regard info`` computes costs for it."""
    assert BertConfig(max_positions=positions).longest_input(256) == longest
