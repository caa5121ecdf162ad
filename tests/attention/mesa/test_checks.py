"""What the Mesa layer says of arguments that it cannot take."""

import re
from functools import partial

import pytest
import torch

from regard.attention.mesa.layer_function import MesaState, mesa
from regard.errors import ConfigError, ShapeError

Q = torch.zeros(2, 3, 5, 4, dtype=torch.float64)
WRONG_SHAPES = [
    ({"q": Q[0]}, "q has shape [3, 5, 4]; expected 4 axes, [batch, heads, length, dim]."),
    ({"k": Q[:, :1]}, "k has shape [2, 1, 5, 4]; expected [2, 3, 5, 4], as q."),
    ({"k": Q.int()}, "k is torch.int32 on cpu; expected floating point on cpu."),
    (
        {"v": Q[:, :, :4]},
        "v has shape [2, 3, 4, 4]; expected [2, 3, 5, value_dim] to fit k [2, 3, 5, 4].",
    ),
    ({"v": Q.float()}, "v is torch.float32 on cpu; expected torch.float64 on cpu, as q."),
    (
        {"regularization": torch.ones(4)},
        "regularization has shape [4]; expected [3, 4], [heads, dim].",
    ),
    ({"forget": Q}, "forget has shape [2, 3, 5, 4]; expected [2, 3, 5], [batch, heads, length]."),
    ({"write": Q[0, 0]}, "write has shape [5, 4]; expected [2, 3, 5], [batch, heads, length]."),
    (
        {"initial": MesaState(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 4))},
        "initial.keys has shape [2, 3, 4, 5]; expected [2, 3, 4, 4], [batch, heads, dim, dim].",
    ),
    (
        {"initial": MesaState(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 5, 4))},
        "initial.values has shape [2, 3, 5, 4]; expected [2, 3, 4, 4], "
        "[batch, heads, value_dim, dim].",
    ),
    ({"lengths": torch.tensor([5])}, "lengths has shape [1]; expected [2], one a row."),
    ({"lengths": torch.ones(2)}, "lengths is torch.float32; expected integers."),
]


@pytest.mark.parametrize(("given", "message"), WRONG_SHAPES, ids=[m[:24] for _, m in WRONG_SHAPES])
def test_a_tensor_that_does_not_fit_is_named(given, message):
    call = partial(mesa, **{"q": Q, "k": Q, "v": Q, "regularization": torch.ones(3, 4)} | given)
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        call()


def test_a_step_takes_one_position():
    state = MesaState(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    message = "k has shape [2, 3, 5, 4]; expected 3 axes, [batch, heads, dim], of one position."
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        state.step(Q[:, :, 0], Q, Q[:, :, 0], regularization=torch.ones(3, 4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_iterations": 0}, "num_iterations=0: must be 1 or more."),
        ({"chunk": 0}, "chunk=0: must be 1 or more."),
        ({"tolerance": 0.0}, "tolerance=0.0: must be above 0, or None."),
    ],
)
def test_a_number_out_of_range_is_named(given, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        mesa(Q, Q, Q, regularization=torch.ones(3, 4), **given)
