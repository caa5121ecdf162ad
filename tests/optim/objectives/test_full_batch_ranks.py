"""Two processes (gloo, on the CPU) against one: iterates, decisions, collectives, sharding.

The two processes compute all cases in one start, and leave their results in files.
"""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tests.processes import start_process
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from regard.errors import ConfigError
from regard.optim import (
    LBFGS,
    AdamThenCG,
    ConjugateGradient,
    FullBatch,
    GradientDescent,
    NewtonCG,
)

pytestmark = pytest.mark.slow

STEPS = 6
BUILDERS = {
    "cg": lambda params: ConjugateGradient(params),
    "cg with memory": lambda params: ConjugateGradient(params, memory=4),
    "cg with adam": lambda params: ConjugateGradient(params, preconditioner="adam"),
    "lbfgs": lambda params: LBFGS(params, history_size=4),
    "gradient-descent": lambda params: GradientDescent(params),
    "gauss-newton": lambda params: NewtonCG(params),
    "hessian": lambda params: NewtonCG(params, curvature="hessian"),
    "adam, then cg": lambda params: AdamThenCG(params, lr=0.1, window=2, threshold=0.1),
}
FIRST_ORDER = ["cg", "cg with memory", "cg with adam", "lbfgs", "gradient-descent"]
SECOND_ORDER = ["gauss-newton", "hessian"]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ROWS, LABELS = draw(24, 4), torch.randint(3, (24,), generator=torch.Generator().manual_seed(7))
UNEVEN = [[17, 7], [[6, 6, 5], [7]]]  # rows of each process, and their micro-batches


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 3)).double()


def share(rank, world):
    """Cut off a process's rows, in micro-batches of different sizes."""
    if world == 1:
        return [(ROWS, LABELS)]
    rows, labels = ROWS.split(UNEVEN[0])[rank], LABELS.split(UNEVEN[0])[rank]
    return list(zip(rows.split(UNEVEN[1][rank]), labels.split(UNEVEN[1][rank]), strict=True))


def halves(rank, world):
    return list(zip(ROWS.chunk(world), LABELS.chunk(world), strict=True))[rank]


def whole(model, batches, **settings):
    return FullBatch(
        batches,
        lambda outputs, batch: F.cross_entropy(outputs, batch[1]),
        outputs=lambda batch: model(batch[0]),
        model=model,
        **settings,
    )


def full(parameter):
    tensor = parameter.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def position(model):
    return torch.cat([full(p).reshape(-1) for p in model.parameters()]).clone()


def run(model, optimizer, objective, steps=STEPS):
    """Take steps; return points ``[steps, n]`` and what was reported of each."""
    points, reports = [], []
    for _ in range(steps):
        optimizer.step(objective)
        points.append(position(model))
        reports.append(repr(optimizer.last))
    return {"points": torch.stack(points), "reports": reports}


# The cases


def replicated(name, rank, world):
    model = network()
    return run(model, BUILDERS[name](model.parameters()), whole(model, share(rank, world)))


def wrapped(name, rank, world):
    """DistributedDataParallel, whose own reductions are counted."""
    model = DistributedDataParallel(network())
    reductions = []

    def hook(state, bucket):
        state.append(bucket.index())
        future = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    model.register_comm_hook(reductions, hook)
    outputs = run(model, BUILDERS[name](model.parameters()), whole(model, share(rank, world)))
    return outputs | {"reductions": len(reductions)}


def by_closure(name, rank, world):
    """A closure over a replicated model: the loss of this process's half, averaged by us."""
    model = network()
    rows, labels = halves(rank, world)
    if world > 1:
        model = DistributedDataParallel(model)
    optimizer = BUILDERS[name](model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(rows), labels)
        loss.backward()
        return loss

    return run(model, optimizer, closure)


def summed_by_the_closure(name, rank, world):
    """A closure that sums gradients itself over a bare model, and says how by `reduce`."""
    model = network()
    rows, labels = halves(rank, world)
    settings = {"reduce": dist.all_reduce} if world > 1 else {}
    optimizer = type(BUILDERS[name](model.parameters()))(model.parameters(), **settings)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(rows), labels)
        loss.backward()
        if world > 1:
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= world
        return loss

    return run(model, optimizer, closure)


def messages_without_average(rank):
    """Return the messages where `reduce` is given and the gradients are those of each process."""
    said = []
    for has_gradient in (True, rank == 0):
        model = network()
        rows, labels = halves(rank, 2)

        def closure(model=model, rows=rows, labels=labels, has_gradient=has_gradient):
            loss = F.cross_entropy(model(rows), labels)
            if has_gradient:
                loss.backward()
            return loss

        try:
            ConjugateGradient(model.parameters(), reduce=dist.all_reduce).step(closure)
        except ConfigError as error:
            said.append(str(error))
    return said


def alone(name, rank, world):
    """The first process optimizes, the second does something else."""
    model = network()
    if rank:
        return None
    optimizer = BUILDERS[name](model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(ROWS), LABELS)
        loss.backward()
        return loss

    return run(model, optimizer, closure)


def alone_on_all_rows(name, rank, world):
    """The same by an objective, which is told that there is nothing to sum."""
    model = network()
    if rank:
        return None
    objective = whole(model, [(ROWS, LABELS)], reduce=lambda tensor: None)
    return run(model, BUILDERS[name](model.parameters()), objective)


def idle(name, rank, world):
    """The second process has no data."""
    model = network()
    batches = list(zip(ROWS.split(9), LABELS.split(9), strict=True)) if rank == 0 else []
    return run(model, BUILDERS[name](model.parameters()), whole(model, batches))


def frozen(name, rank, world):
    model = network(dropout=0.4)
    objective = whole(model, share(rank, world), dropout="frozen")
    return run(model, BUILDERS[name](model.parameters()), objective)


def sharded(name, rank, world):
    model = network()
    if world > 1:
        for layer in (model[0], model[3]):
            fully_shard(layer, mesh=dist.init_device_mesh("cpu", (world,)))
        fully_shard(model, mesh=dist.init_device_mesh("cpu", (world,)))
        assert any(isinstance(p, DTensor) for p in model.parameters())
    # Collectives of the sharding come once a micro-batch: all processes have as many.
    objective = whole(model, [halves(rank, world)])
    return run(model, BUILDERS[name](model.parameters()), objective)


def sharded_and_whole(name, rank, world):
    """One layer is sharded, the other replicated."""
    model = network()
    if world > 1:
        fully_shard(model[0], mesh=dist.init_device_mesh("cpu", (world,)))
    objective = whole(model, [halves(rank, world)])
    return run(model, BUILDERS[name](model.parameters()), objective)


def narrow(name, rank, world):
    """Of a single row sharded over two processes, the second holds nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1), nn.Tanh(), nn.Linear(1, 3)).double()
    if world > 1:
        fully_shard(model[0], mesh=dist.init_device_mesh("cpu", (world,)))
    objective = whole(model, [halves(rank, world)])
    return run(model, BUILDERS[name](model.parameters()), objective)


def sharded_and_resumed(name, rank, world):
    model = network()
    if world > 1:
        fully_shard(model, mesh=dist.init_device_mesh("cpu", (world,)))
    objective = whole(model, [halves(rank, world)])
    first = BUILDERS[name](model.parameters())
    begun = run(model, first, objective, 4)
    second = BUILDERS[name](model.parameters())
    second.load_state_dict(first.state_dict())
    ended = run(model, second, objective, STEPS - 4)
    return {
        "points": torch.cat([begun["points"], ended["points"]]),
        "reports": begun["reports"] + ended["reports"],
    }


def collectives(rank, world):
    """Count all-reduces of an evaluation of each kind, and of a whole step."""
    model = network()
    objective, calls = whole(model, share(rank, world)), []
    all_reduce = dist.all_reduce

    def counted(tensor, *args, **options):
        calls.append(tensor.numel())
        return all_reduce(tensor, *args, **options)

    dist.all_reduce = counted
    try:
        objective.bind(list(model.parameters()))
        vector = [torch.ones_like(p) for p in model.parameters()]
        kinds = {}
        for kind in ("value", "gradient", "hessian", "gauss_newton"):
            calls.clear()
            arguments = [vector] if kind in ("hessian", "gauss_newton") else []
            getattr(objective, kind)(*arguments)
            kinds[kind] = list(calls)
        optimizer = ConjugateGradient(model.parameters())
        calls.clear()
        for _ in range(3):
            optimizer.step(objective)
        made = optimizer.counts.gradients + optimizer.counts.values
        return {"kinds": kinds, "in_steps": len(calls), "evaluations": made}
    finally:
        dist.all_reduce = all_reduce


def kinds_between_evaluations(rank, world):
    """Tell which parameters are still parts after a pass without gradients."""
    model = network()
    fully_shard(model, mesh=dist.init_device_mesh("cpu", (world,)))
    objective = whole(model, [halves(rank, world)])
    objective.value()
    return [isinstance(parameter, DTensor) for parameter in model.parameters()]


def messages_without_data():
    """Return what every kind of evaluation is refused with where no process has data."""
    model, said = network(), []
    objective = whole(model, [])
    objective.bind(list(model.parameters()))
    vector = [torch.ones_like(p) for p in model.parameters()]
    attempts = (
        objective.value,
        objective.gradient,
        lambda: objective.hessian(vector),
        lambda: objective.gauss_newton(vector),
    )
    for attempt in attempts:
        try:
            attempt()
        except ConfigError as error:
            said.append(str(error))
    return said


def gradients_where_processes_use_other_parameters(rank):
    """Return the gradients of three parameters: of process 0, of process 1, of none."""
    own = [nn.Parameter(torch.ones(size, dtype=torch.float64)) for size in (1, 2, 3)]
    objective = FullBatch([ROWS], lambda rows: (own[rank].sum(), 1), parameters=own)
    objective.gradient()
    return [parameter.grad for parameter in own]


def refusals():
    """Return the messages about sharded parameters where they are refused."""
    model, said = network(), []
    fully_shard(model, mesh=dist.init_device_mesh("cpu", (dist.get_world_size(),)))
    objective = FullBatch([(ROWS, LABELS)], lambda batch: model(batch[0]).square().mean())
    attempts = (
        lambda: NewtonCG(model.parameters()),
        lambda: ConjugateGradient(model.parameters()).step(objective),
    )
    for attempt in attempts:
        try:
            attempt()
        except ConfigError as error:
            said.append(str(error))
    return said


CASES = {
    "replicated": (replicated, [*FIRST_ORDER, *SECOND_ORDER]),
    "wrapped": (wrapped, ["cg", *SECOND_ORDER]),
    "by_closure": (by_closure, [*FIRST_ORDER, "adam, then cg"]),
    "summed_by_the_closure": (summed_by_the_closure, ["cg", "gradient-descent"]),
    "alone": (alone, ["cg", "lbfgs", "adam, then cg"]),
    "alone_on_all_rows": (alone_on_all_rows, ["cg", "gauss-newton"]),
    "idle": (idle, [*FIRST_ORDER, *SECOND_ORDER]),
    "frozen": (frozen, ["cg", "gauss-newton"]),
    "sharded": (sharded, FIRST_ORDER),
    "sharded_and_whole": (sharded_and_whole, FIRST_ORDER),
    "narrow": (narrow, FIRST_ORDER),
    "sharded_and_resumed": (sharded_and_resumed, ["cg with memory"]),
}
NAMES = [(case, name) for case, (_, names) in CASES.items() for name in names]


def main(rank, world, folder):
    """Run all cases as one of the processes."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    results = {case: CASES[case[0]][0](case[1], rank, world) for case in NAMES}
    results["collectives"] = collectives(rank, world)
    results["kinds"] = kinds_between_evaluations(rank, world)
    results["refusals"] = refusals()
    results["messages_without_data"] = messages_without_data()
    results["messages_without_average"] = messages_without_average(rank)
    results["mixed"] = gradients_where_processes_use_other_parameters(rank)
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The results of each of two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [start_process(main, rank, 2, folder) for rank in range(2)]
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


ALONE = ("alone", "alone_on_all_rows")


@pytest.mark.parametrize("name", [name for name in NAMES if name[0] not in ALONE], ids=" ".join)
def test_both_processes_have_the_same_parameters_and_reports_bit_for_bit(both, name):
    first, second = (results[name] for results in both)
    assert torch.equal(first["points"], second["points"])
    assert first["reports"] == second["reports"]


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name[0] not in ("frozen", "wrapped")], ids=" ".join
)
def test_iterates_of_two_processes_are_those_of_one(both, name):
    case, method = name
    expected = CASES[case][0](method, 0, 1)
    torch.testing.assert_close(both[0][name]["points"], expected["points"], atol=1e-10, rtol=0)


def test_adam_gives_way_to_conjugate_gradient_at_the_same_step_everywhere(both):
    reports = both[0]["by_closure", "adam, then cg"]["reports"]
    assert "evaluations=1," in reports[0]
    assert "restart_reason='first step'" in "".join(reports)


@pytest.mark.parametrize("method", CASES["wrapped"][1])
def test_a_wrapped_model_is_as_good_as_a_bare_one(both, method):
    wrapped, bare = both[0]["wrapped", method], both[0]["replicated", method]
    assert torch.equal(wrapped["points"], bare["points"])


@pytest.mark.parametrize("method", CASES["wrapped"][1])
def test_a_wrapped_model_does_not_reduce_by_itself(both, method):
    assert both[0]["wrapped", method]["reductions"] == 0


def test_an_evaluation_is_one_all_reduce(both):
    parameters = list(network().parameters())
    size = sum(p.numel() for p in parameters)
    assert both[0]["collectives"]["kinds"] == {
        "value": [2],
        "gradient": [2 + len(parameters) + size],  # and which of them have a gradient at all
        "hessian": [2 + size],
        "gauss_newton": [2 + size],
    }


def test_a_step_reduces_nothing_but_its_evaluations(both):
    counted = both[0]["collectives"]
    assert counted["in_steps"] == counted["evaluations"]


def test_frozen_masks_give_a_descent_that_both_share(both):
    points = both[0]["frozen", "cg"]["points"]
    assert not torch.equal(points[0], points[-1])


def test_no_whole_copies_of_sharded_parameters_are_left(both):
    assert both[0]["kinds"] == [True] * 4


def test_where_no_process_has_data_all_report_it(both):
    message = "the loaders of all 2 processes gave no term of the loss.  Is the data set empty?"
    assert [results["messages_without_data"] for results in both] == [[message] * 4] * 2


def test_gradients_that_no_one_averages_are_refused_on_both_processes(both):
    for results in both:
        assert len(results["messages_without_average"]) == 2
        for message in results["messages_without_average"]:
            assert message.startswith("the gradients differ between the processes")
            assert "all_reduce(p.grad)" in message


def test_a_parameter_has_a_gradient_everywhere_where_one_process_uses_it(both):
    for first, second, unused in (results["mixed"] for results in both):
        assert first.tolist() == [0.5]
        assert second.tolist() == [0.5, 0.5]
        assert unused is None


def test_sharded_parameters_are_refused_where_they_cannot_be_taken(both):
    assert both[0]["refusals"] == [
        "NewtonCG takes no sharded parameters (FSDP): products would need every parameter whole.  "
        "Use DistributedDataParallel's replication, or ConjugateGradient.",
        "the parameters are sharded (FSDP), so FullBatch must know the model, which keeps whole "
        "copies between evaluations.  Pass model=model.",
    ]
