"""What callers pass to `attend`: other forms that are read, and what is refused in one sentence."""

import numpy as np
import pytest
import torch
from torch import Tensor

from regard.attention import (
    Alibi,
    Blocks,
    Causal,
    Cosine,
    DotProduct,
    Global,
    Hierarchical,
    Local,
    RandomBlocks,
    Strided,
    TopK,
    attend,
)
from regard.errors import ConfigError, ShapeError

Q = torch.randn(2, 2, 6, 4, generator=torch.Generator().manual_seed(1))
MASK = torch.ones(6, 6, dtype=torch.bool)


def test_a_pattern_may_be_its_text_form():
    assert torch.equal(attend(Q, Q, Q, pattern="local:1,0"), attend(Q, Q, Q, pattern=Local(1, 0)))
    with pytest.raises(ConfigError, match=r'"lokal:4" is not a pattern.  Did you mean local:4\?'):
        attend(Q, Q, Q, pattern="lokal:4")


def test_one_tensor_of_lengths_never_means_the_queries():
    lengths = torch.tensor([6, 2])
    of_keys = attend(Q, Q, Q, lengths=lengths)
    assert torch.equal(of_keys, attend(Q, Q, Q, lengths=(None, lengths)))
    assert (of_keys[1, :, 2:] != 0).all()
    of_both = attend(Q, Q, Q, lengths=(lengths, lengths))
    assert (of_both[1, :, 2:] == 0).all()
    assert torch.equal(of_both[1, :, :2], of_keys[1, :, :2])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"lengths": [3, 4]},
            ShapeError,
            "lengths is of type list; expected a tensor of integers [2], one a row, as "
            "torch.tensor(...) makes it.",
        ),
        (
            {"lengths": ([3, 4], [3, 4])},
            ShapeError,
            "query lengths is of type list; expected a tensor of integers [2], one a row, as "
            "torch.tensor(...) makes it.",
        ),
        (
            {"lengths": MASK[:2]},
            ShapeError,
            "lengths is torch.bool; expected integers [2], one a row.  A boolean choice of keys is "
            "a `mask`, such as mask=is_valid[:, None, None, :].",
        ),
        (
            {"lengths": torch.tensor([7, 3])},
            ShapeError,
            "lengths has a 7; expected 0 to 6, the number of keys.",
        ),
        (
            {"lengths": torch.tensor([-1, 3])},
            ShapeError,
            "lengths has a -1; expected 0 to 6, the number of keys.",
        ),
        (
            {"lengths": (torch.tensor([9, 1]), None)},
            ShapeError,
            "query lengths has a 9; expected 0 to 6, the number of queries.",
        ),
        (
            {"mask": MASK.tolist()},
            ShapeError,
            "mask is of type list; expected a tensor, such as torch.as_tensor(mask).",
        ),
        (
            {"pattern": MASK},
            ConfigError,
            "pattern is of type Tensor; expected a pattern such as Local(64, 0), or its text form "
            'such as "local:64,0".  A boolean tensor of the allowed pairs is a `mask`.',
        ),
        (
            {"pattern": Causal},
            ConfigError,
            "pattern is the class Causal; expected a pattern such as Local(64, 0), or its text "
            'form such as "local:64,0".',
        ),
        (
            {"score": "cosine"},
            ConfigError,
            "score is of type str; expected a score such as DotProduct() or Cosine(10.0).",
        ),
        (
            {"score": Cosine},
            ConfigError,
            "score is the class Cosine; expected a score such as DotProduct() or Cosine(10.0).",
        ),
        (
            {"score": type("Halved", (DotProduct,), {})()},
            ConfigError,
            "score is of type Halved, a subclass of DotProduct, which kernels would compute as "
            "DotProduct; write a class of its own with tensors(), check() and __call__().",
        ),
        (
            {"bias": type("Steep", (Alibi,), {})(torch.ones(1))},
            ConfigError,
            "bias is of type Steep, a subclass of Alibi, which kernels would compute as Alibi; "
            "write a class of its own with tensors(), check() and __call__().",
        ),
        (
            {"bias": Alibi},
            ConfigError,
            "bias is the class Alibi; expected a tensor that broadcasts to [batch, heads, queries, "
            "keys], or a bias by position such as Alibi(alibi_slopes(heads)).",
        ),
        (
            {"segments": torch.zeros(2, 6).long()},
            ShapeError,
            "segments must be a pair of tensors, those of the queries [batch, queries] and of the "
            "keys [batch, keys]; in self-attention (numbers, numbers).",
        ),
        ({"query_offset": 1.5}, ConfigError, "query_offset=1.5: must be a whole number."),
        (
            {"generator": 3, "dropout": 0.1},
            ConfigError,
            "generator=3: must be a torch.Generator, such as torch.Generator().manual_seed(1).",
        ),
        ({"dropout": None}, ConfigError, "dropout=None: must be a number, at least 0 and below 1."),
        (
            {"patern": Causal()},
            TypeError,
            "attend() got an unexpected keyword argument 'patern'.  Did you mean 'pattern'?",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_the_way(options, error, message):
    with pytest.raises(error) as raised:
        attend(Q, Q, Q, **options)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            Tensor.to_sparse,
            r"^q is sparse_coo; expected a dense tensor \[batch, heads, len",
        ),
        (lambda q: torch.nested.as_nested_tensor(list(q)), r"^q is nested; .* with lengths=\.$"),
        (lambda q: q.to(torch.float8_e5m2), r"^q is torch.float8_e5m2; .* type of 16 bits or more"),
        (Tensor.long, r"^q is torch.int64; expected a floating-point type\.$"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_tensor_of_another_kind_is_named(build, message):
    q = build(Q)
    with pytest.raises(ShapeError, match=message):
        attend(q, q, q)


def test_arrays_are_named():
    with pytest.raises(ShapeError) as raised:
        attend(Q.numpy(), Q, Q)
    assert str(raised.value) == (
        "q is of type ndarray; expected a tensor, such as torch.as_tensor(q)."
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda: Local(2.5, 0),
        lambda: Local(0, True),
        lambda: Strided("3"),
        lambda: Global((0.5,)),
        lambda: Blocks([[1]], 1.5),
        lambda: RandomBlocks(4, 1.5),
        lambda: TopK(2.5),
        lambda: Hierarchical(2.0),
    ],
)
def test_numbers_of_a_pattern_that_are_not_whole_are_refused(build):
    with pytest.raises(ConfigError, match="is not a whole number"):
        build()


def test_the_error_for_a_fractional_window_says_how_it_is_written():
    with pytest.raises(ConfigError) as raised:
        Local(0.1, 0)
    assert str(raised.value) == (
        "Local(before=0.1, after=0): 0.1 is not a whole number.  "
        "A fraction of the length is RelativeWindow(before, after)."
    )


def test_whole_numbers_of_other_libraries_are_read():
    assert repr(Local(np.int64(3), torch.tensor(2))) == "Local(before=3, after=2)"
