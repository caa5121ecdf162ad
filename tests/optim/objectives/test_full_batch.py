"""The whole data set as one function: the same whatever its parts, noiseless, exact products."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian, jacrev
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from regard.errors import ConfigError, ShapeError
from regard.optim import ConjugateGradient, FullBatch, NewtonCG
from regard.optim.objectives.full_batch import evenly_spaced
from regard.optim.objectives.objective import DeterministicObjective, StepAwareObjective

SIZES = [1, 3, 7, 24]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


ROWS, LABELS = draw(24, 4), torch.randint(3, (24,), generator=torch.Generator().manual_seed(7))


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 3)).double()


def batches_of(size):
    return list(zip(ROWS.split(size), LABELS.split(size), strict=True))


def whole(model, size=7, /, **settings):
    """Build the objective of cross-entropy over micro-batches of a size."""
    return FullBatch(
        batches_of(size),
        lambda outputs, batch: F.cross_entropy(outputs, batch[1]),
        outputs=lambda batch: model(batch[0]),
        **settings,
    )


def bound(model, *args, **settings):
    return whole(model, *args, parameters=model.parameters(), model=model, **settings)


def like(model, seed=5):
    return [draw(*p.shape, seed=seed) for p in model.parameters()]


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def exact_loss(model):
    return F.cross_entropy(model(ROWS), LABELS)


def test_it_is_an_objective_that_is_prepared_and_callable_as_a_closure():
    objective = bound(network())
    assert isinstance(objective, DeterministicObjective)
    assert isinstance(objective, StepAwareObjective)
    assert objective() == objective.gradient()


@pytest.mark.parametrize("size", SIZES)
def test_value_and_gradient_are_those_of_all_rows_at_once(size):
    model = network()
    expected = exact_loss(model)
    slopes = torch.autograd.grad(expected, list(model.parameters()))
    objective = bound(model, size)
    assert objective.value() == pytest.approx(expected.item(), abs=1e-12)
    assert objective.gradient() == pytest.approx(expected.item(), abs=1e-12)
    for parameter, slope in zip(model.parameters(), slopes, strict=True):
        torch.testing.assert_close(parameter.grad, slope, atol=1e-12, rtol=0)


def test_gradients_from_before_are_cleared():
    model = network()
    objective = bound(model)
    objective.gradient()
    first = [p.grad.clone() for p in model.parameters()]
    objective.gradient()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), first, strict=True))


def test_a_value_leaves_the_gradients():
    model = network()
    objective = bound(model)
    objective.gradient()
    first = [p.grad for p in model.parameters()]
    objective.value()
    assert all(p.grad is g for p, g in zip(model.parameters(), first, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("build", [ConjugateGradient, NewtonCG])
def test_iterates_agree_between_sizes_of_micro_batches(build):
    trajectories = {}
    for size in SIZES:
        model = network()
        objective, optimizer = whole(model, size), build(model.parameters())
        points = []
        for _ in range(10):
            optimizer.step(objective)
            points.append(flat(model.parameters()).detach())
        trajectories[size] = torch.stack(points)
    for size in SIZES:
        torch.testing.assert_close(trajectories[size], trajectories[24], atol=1e-10, rtol=0)


def test_pairs_weigh_rows_by_their_terms():
    lengths = torch.tensor([1, 4, 2, 3, 5, 1])
    entries, weights = draw(6, 5), nn.Parameter(draw(5, seed=1))

    def loss(batch):
        rows, count = batch
        mask = torch.arange(5) < count.unsqueeze(1)
        return ((rows * weights) ** 2 * mask).sum(), mask.sum()

    def of(size):
        pairs = list(zip(entries.split(size), lengths.split(size), strict=True))
        return FullBatch(pairs, loss, parameters=[weights])

    mask = torch.arange(5) < lengths.unsqueeze(1)
    expected = float((((entries * weights) ** 2).detach() * mask).sum() / lengths.sum())
    for size in (1, 2, 4, 6):
        objective = of(size)
        assert objective.gradient() == pytest.approx(expected, abs=1e-12)
        slope = (2 * entries**2 * weights.detach() * mask).sum(0) / lengths.sum()
        torch.testing.assert_close(weights.grad, slope, atol=1e-12, rtol=0)


def test_means_weigh_batches_by_their_rows():
    weights = nn.Parameter(draw(4))
    uneven = [ROWS[:5], ROWS[5:6], ROWS[6:]]
    objective = FullBatch(uneven, lambda rows: (rows @ weights).square().mean())
    assert objective.value() == pytest.approx(float((ROWS @ weights.detach()).square().mean()))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: rows,
        lambda rows: (rows, 1),
        lambda rows: [rows],
        lambda rows: {"rows": rows, "name": "x"},
        lambda rows: {"inputs": {"rows": rows}},
    ],
    ids=["tensor", "tuple", "list", "dict", "nested"],
)
def test_rows_are_counted_by_the_first_tensor(wrap):
    uneven = [wrap(ROWS[:20]), wrap(ROWS[20:])]
    values = iter([torch.tensor(1.0), torch.tensor(7.0)])
    objective = FullBatch(uneven, lambda batch: next(values))
    assert objective.value() == pytest.approx((20 * 1 + 4 * 7) / 24)


def test_rows_that_cannot_be_counted_are_refused():
    objective = FullBatch([3.0], lambda batch: torch.tensor(1.0))
    with pytest.raises(ConfigError) as error:
        objective.value()
    assert str(error.value) == (
        "the number of rows is unknown for a batch of type float.  Let the loss return a pair: the "
        "sum and the number of its terms."
    )


def test_a_data_loader_is_taken():
    model = network()
    loader = DataLoader(TensorDataset(ROWS, LABELS), batch_size=5)
    objective = FullBatch(loader, lambda batch: F.cross_entropy(model(batch[0]), batch[1]))
    assert objective.value() == pytest.approx(exact_loss(model).item(), abs=1e-12)


def test_a_shuffled_data_loader_makes_no_noise():
    """The mean over all rows does not depend on their order."""
    model = network()
    loader = DataLoader(TensorDataset(ROWS, LABELS), batch_size=5, shuffle=True)
    objective = FullBatch(loader, lambda batch: F.cross_entropy(model(batch[0]), batch[1]))
    before = exact_loss(model).item()
    assert ConjugateGradient(model.parameters()).step(objective) < before


def test_losses_in_float32_are_summed_in_float64():
    weights = nn.Parameter(torch.ones(1))
    values = [1e8, 1.0, 1.0, -1e8]
    objective = FullBatch(
        [torch.tensor([v]) for v in values], lambda row: (row * weights).sum(), parameters=[weights]
    )
    assert objective.value() == 0.5


# Mixed precision


def test_mixed_precision_around_it_changes_nothing():
    model = network().float()
    rows = ROWS.float()
    objective = FullBatch(
        [(rows, LABELS)],
        lambda outputs, batch: F.cross_entropy(outputs, batch[1]),
        outputs=lambda batch: model(batch[0]),
        parameters=model.parameters(),
        model=model,
    )
    vector = [v.float() for v in like(model)]

    def everything():
        value = objective.gradient()
        slopes = [p.grad.clone() for p in model.parameters()]
        objective.begin_step()
        products = [objective.hessian(vector), objective.hessian(vector)]
        products += [objective.gauss_newton(vector), objective.gauss_newton(vector)]
        return value, objective.value(), flat(slopes), *map(flat, products)

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = everything()
    assert plain[:2] == mixed[:2]
    assert all(torch.equal(a, b) for a, b in zip(plain[2:], mixed[2:], strict=True))


# Products


def explicit(model, of_outputs):
    """Compute Hessian and Gauss-Newton matrix over all rows, ``[n, n]``, from their definitions."""
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def outputs(vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        named = {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        return functional_call(model, named, (ROWS,))

    here = flat(model.parameters()).detach()
    jacobian = jacrev(outputs)(here).flatten(0, 1)
    curvature = hessian(of_outputs)(outputs(here))
    size = jacobian.shape[0]
    gauss_newton = jacobian.T @ curvature.reshape(size, size) @ jacobian
    return hessian(lambda v: of_outputs(outputs(v)))(here), gauss_newton


@pytest.mark.parametrize("size", SIZES)
def test_products_are_those_of_the_explicit_matrices(size):
    model = network()
    exact, gauss_newton = explicit(model, lambda outputs: F.cross_entropy(outputs, LABELS))
    objective, vector = bound(model, size), like(model)
    computed = flat(objective.hessian(vector))
    torch.testing.assert_close(computed, exact @ flat(vector), atol=1e-12, rtol=0)
    computed = flat(objective.gauss_newton(vector))
    torch.testing.assert_close(computed, gauss_newton @ flat(vector), atol=1e-12, rtol=0)


@pytest.mark.parametrize("product", ["hessian", "gauss_newton"])
def test_products_follow_the_parameters(product):
    model = network()
    objective, vector = bound(model, 24), like(model)
    objective.begin_step()
    first = flat(getattr(objective, product)(vector))
    with torch.no_grad():
        model[0].weight.mul_(2)
    moved = flat(getattr(objective, product)(vector))
    assert not torch.equal(first, moved)
    assert torch.equal(moved, flat(getattr(bound(model, 24), product)(vector)))


@pytest.mark.parametrize("product", ["hessian", "gauss_newton"])
def test_a_kept_graph_gives_what_a_new_one_gives(product):
    model = network()
    objective, vector, other = bound(model, 24), like(model), like(model, seed=6)
    objective.begin_step()
    getattr(objective, product)(vector)
    cached = flat(getattr(objective, product)(other))
    assert torch.equal(cached, flat(getattr(bound(model, 24), product)(other)))


@pytest.mark.parametrize("product", ["hessian", "gauss_newton"])
def test_a_fraction_takes_evenly_spread_micro_batches(product):
    model = network()
    vector = like(model)
    part = getattr(bound(model, 6, curvature_fraction=0.5), product)(vector)
    rows, labels = (torch.cat([of[6:12], of[18:24]]) for of in (ROWS, LABELS))
    objective = FullBatch(
        [(rows, labels)],
        lambda outputs, batch: F.cross_entropy(outputs, batch[1]),
        outputs=lambda batch: model(batch[0]),
        parameters=model.parameters(),
    )
    expected = getattr(objective, product)(vector)
    torch.testing.assert_close(flat(part), flat(expected), atol=1e-12, rtol=0)


@pytest.mark.parametrize("number", [1, 2, 7, 50])
@pytest.mark.parametrize("share", [1e-3, 0.1, 0.25, 0.6, 1.0])
def test_a_share_is_spread_evenly(number, share):
    places = evenly_spaced(number, share)
    assert len(places) == max(1, round(share * number))
    assert all(0 <= place < number for place in places)
    gaps = [after - before for before, after in pairwise(places)]
    assert not gaps or 1 <= min(gaps) >= max(gaps) - 1
    assert abs(sum(places) / len(places) - (number - 1) / 2) <= 0.5


def test_a_fraction_of_a_loader_without_places_is_the_same():
    model, batches = network(), list(zip(ROWS.split(4), LABELS.split(4), strict=True))

    class Loader:
        def __len__(self):
            return len(batches)

        def __iter__(self):
            return iter(batches)

    class Unsized:
        def __iter__(self):
            return iter(batches)

    products = [
        FullBatch(
            loader,
            lambda batch: F.cross_entropy(model(batch[0]), batch[1]),
            parameters=model.parameters(),
            curvature_fraction=0.3,
        ).hessian(like(model))
        for loader in (batches, Loader(), Unsized())
    ]
    for other in products[1:]:
        assert torch.equal(flat(other), flat(products[0]))


class Shuffling:
    """Batches in another order at every pass, without a sampler that says so."""

    def __init__(self, batches):
        self.batches, self.generator = batches, torch.Generator().manual_seed(0)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        order = torch.randperm(len(self.batches), generator=self.generator)
        return iter([self.batches[index] for index in order])


@pytest.mark.parametrize("kind", ["data loader", "weighted", "own"])
def test_a_fraction_of_a_loader_that_shuffles_is_refused(kind):
    rows = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    loaders = {
        "data loader": DataLoader(rows, batch_size=2, shuffle=True),
        "weighted": DataLoader(
            rows, batch_size=2, sampler=WeightedRandomSampler(torch.ones(16), 16)
        ),
        "own": Shuffling(rows.split(2)),
    }
    model = nn.Linear(2, 1)
    objective = FullBatch(
        loaders[kind],
        lambda rows: model(rows).square().mean(),
        parameters=model.parameters(),
        curvature_fraction=0.25,
    )
    vector = [torch.ones_like(p) for p in model.parameters()]
    assert objective.gradient() > 0  # all rows in any order
    with pytest.raises(ConfigError) as caught:
        for _ in range(3):
            objective.hessian(vector)
    assert str(caught.value).startswith(
        "curvature_fraction=0.25 takes products over always the same batches, but the loader "
    )
    assert str(caught.value).endswith("or FullBatch(list(loader), ...).")


def test_a_fraction_of_a_data_loader_in_order_is_the_same_again():
    rows = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(2, 1)
    objective = FullBatch(
        DataLoader(rows, batch_size=2),
        lambda rows: model(rows).square().mean(),
        parameters=model.parameters(),
        curvature_fraction=0.5,
    )
    vector = [torch.ones_like(p) for p in model.parameters()]
    assert all(map(torch.equal, objective.hessian(vector), objective.hessian(vector)))


def test_a_fraction_leaves_value_and_gradient_whole():
    model = network()
    objective = bound(model, 6, curvature_fraction=0.1)
    assert objective.gradient() == pytest.approx(exact_loss(model).item(), abs=1e-12)


def test_a_fraction_that_changes_is_minded():
    model = network()
    objective, vector = bound(model, 12), like(model)
    expected = flat(objective.hessian(vector))
    objective.begin_step()
    objective.curvature_fraction = 0.5
    assert not torch.allclose(flat(objective.hessian(vector)), expected)
    objective.curvature_fraction = 1.0
    torch.testing.assert_close(flat(objective.hessian(vector)), expected)


@pytest.mark.parametrize("length", [1, 2, 24])
def test_a_small_fraction_takes_one_micro_batch_at_least(length):
    seen, weights = [], nn.Parameter(draw(4))

    def loss(rows):
        seen.append(len(rows))
        return (rows @ weights).square().mean()

    objective = FullBatch(
        ROWS.split(24 // length), loss, parameters=[weights], curvature_fraction=1e-3
    )
    objective.hessian([draw(4)])
    assert seen == [24 // length]


# Whose parameters


def test_one_objective_serves_two_optimizers_of_different_parameters():
    model, other = network(), network()
    objective = whole(model)
    ConjugateGradient(model[3].parameters()).step(objective)
    optimizer = ConjugateGradient(model.parameters())
    values = [optimizer.step(objective) for _ in range(4)]

    fresh = whole(other)
    ConjugateGradient(other[3].parameters()).step(fresh)
    again, optimizer = whole(other), ConjugateGradient(other.parameters())
    assert [optimizer.step(again) for _ in range(4)] == values


@pytest.mark.parametrize("build", [ConjugateGradient, NewtonCG])
def test_the_order_of_the_optimizers_groups_counts(build):
    """Two square weights of one shape, in the other order than the module's."""
    torch.manual_seed(0)
    models = [
        nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False)).double()
        for _ in range(2)
    ]
    models[1].load_state_dict(models[0].state_dict())
    turned = build([models[0][2].weight, models[0][0].weight])
    plain = build(models[1].parameters())
    objectives = [whole(model, 24, parameters=model.parameters()) for model in models]
    for _ in range(5):
        turned.step(objectives[0])
        plain.step(objectives[1])
    first, second = (flat(model.parameters()).detach() for model in models)
    torch.testing.assert_close(first, second, atol=1e-9, rtol=0)


def test_gradients_without_parameters_are_refused():
    with pytest.raises(ConfigError) as error:
        whole(network()).gradient()
    assert str(error.value) == (
        "the objective does not know its parameters.  Pass it to an optimizer's step, or give "
        "parameters=model.parameters()."
    )


# Refusals


def test_an_iterator_is_refused():
    for spent in (iter([ROWS]), (rows for rows in [ROWS]), zip([ROWS], strict=True)):
        with pytest.raises(ConfigError) as error:
            FullBatch(spent, lambda rows: rows.sum())
        assert str(error.value) == (
            "the loader is an iterator, which is empty after one pass.  Give a list or a "
            "DataLoader, or write list(loader)."
        )


def test_an_empty_loader_is_refused():
    objective = FullBatch([], lambda rows: rows.sum(), parameters=[nn.Parameter(draw(2))])
    part = FullBatch(
        [], lambda rows: rows.sum(), parameters=[nn.Parameter(draw(2))], curvature_fraction=0.5
    )
    products = [lambda of=of: of.hessian([draw(2)]) for of in (objective, part)]
    for evaluate in (objective.value, objective.gradient, *products):
        with pytest.raises(ConfigError) as error:
            evaluate()
        assert str(error.value) == "the loader gave no batch.  Is the data set empty?"


def test_an_unknown_dropout_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"^unknown dropout 'on'.  One of: off, frozen$"):
        FullBatch([ROWS], lambda rows: rows.sum(), dropout="on")


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ConfigError) as error:
        FullBatch([ROWS], lambda rows: rows.sum(), curvature_fraction=fraction)
    assert str(error.value) == (f"curvature_fraction must be above 0 and at most 1, not {fraction}")


def test_a_loss_that_is_not_a_scalar_is_reported():
    with pytest.raises(ShapeError) as error:
        FullBatch([ROWS], lambda rows: rows.sum(0)).value()
    assert str(error.value) == "the loss is [4]; a scalar tensor is expected.  Take its mean."


def test_a_loss_that_is_not_a_tensor_is_reported():
    with pytest.raises(ShapeError) as error:
        FullBatch([ROWS], lambda rows: float(rows.sum())).value()
    assert str(error.value) == "the loss is float; a scalar tensor is expected.  Take its mean."
