"""The curvature of a trained model: eigenvalues, trace and spectrum of its training loss.

The Hessian of the training loss at the trained weights is only multiplied with vectors (Pearlmutter
1994), over evenly spaced batches of the training data, with dropout off. The largest eigenvalues
come from Lanczos' method, with bounds of their errors; the trace, and that of each layer's block of
the diagonal, from random signs (Hutchinson 1989); the density of all eigenvalues from stochastic
Lanczos quadrature (Ghorbani, Krishnan & Xiao 2019).

Cost: about 100 products, each of about three gradients of those batches. Memory: up to 40 vectors
of the weights, fewer where a model is large.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import msgspec
import torch
from torch import Tensor

from regard.data.listing import pluralize
from regard.errors import ConfigError
from regard.explain.influence.influence_options import RowProgress
from regard.explain.influence.training_objective import TrainingObjective, open_training
from regard.optim.curvature.hutchinson import random_signs
from regard.optim.curvature.operators import CurvatureOperator
from regard.optim.curvature.spectrum import (
    Eigenpairs,
    SpectralDensity,
    spectral_density,
    top_eigenvalues,
)
from regard.plots.spectrum_picture import SpectrumPicture
from regard.tasks import Predictor
from regard.training.stability_monitor import layer_of, short_number

_PRODUCT_TOKENS = 1 << 13
_NUM_LARGEST = 3
_MOST_VECTORS, _FEWEST_VECTORS = 40, 8
_MOST_BYTES = 1 << 31  # of these vectors
_NUM_PROBES = 8  # of the trace
_DENSITY_PROBES, _DENSITY_NODES = 2, 25
_SEED = 0
_NEAR_ZERO = 0.01  # of the largest magnitude: most eigenvalues are there
_NUM_POINTS = 240  # of the picture
_SMOOTHING = 1 / 300  # of the largest eigenvalue: the width of one in the density


class LayerCurvature(msgspec.Struct, frozen=True, kw_only=True):
    """The block of the Hessian that belongs to one layer.

    Args:
        name: Path of the layer.
        num_parameters: Its weights.
        trace: Sum of the eigenvalues of the block, estimated.
        trace_error: Standard error of the trace.
    """

    name: str
    num_parameters: int
    trace: float
    trace_error: float


class Curvature(msgspec.Struct, frozen=True, kw_only=True):
    """The curvature of the training loss at the weights of a model.

    Args:
        data: The training data, as it was named.
        unit: What its rows are, such as ``pairs``.
        num_rows: Rows of batches that a product is taken over.
        num_parameters: Weights that were trained.
        loss: Mean training loss of these rows.
        gradient_norm: Norm of its gradient.
        largest: Largest eigenvalues, falling.
        bounds: An eigenvalue is not farther than this from each.
        smallest: The most negative eigenvalue that was found, or the smallest.
        trace: Sum of all eigenvalues, estimated.
        trace_error: Standard error of the trace.
        near_zero: Fraction of the eigenvalues whose magnitude is within 1 % of the largest.
        negative: Fraction of the eigenvalues below -1 % of the largest magnitude.
        layers: Blocks of the layers, in the order of the model.
        grid: Middles of cells of equal width over the spectrum.
        density: Fraction of the eigenvalues per unit in each cell.
        num_products: Products with the Hessian.
        seconds: That all of it took.
    """

    data: str
    unit: str
    num_rows: int
    num_parameters: int
    loss: float
    gradient_norm: float
    largest: list[float]
    bounds: list[float]
    smallest: float
    trace: float
    trace_error: float
    near_zero: float
    negative: float
    layers: list[LayerCurvature]
    grid: list[float]
    density: list[float]
    num_products: int
    seconds: float

    def lines(self) -> Iterator[str]:
        """Yield the figures as lines of text."""
        largest = ", ".join(
            f"{short_number(value)} ± {short_number(bound)}"
            for value, bound in zip(self.largest, self.bounds, strict=True)
        )
        yield (
            f"Curvature   training loss {self.loss:.4g} (gradient norm "
            f"{short_number(self.gradient_norm)}) of {self.num_rows:,} rows of {self.data}; "
            f"{pluralize(self.num_parameters, 'weight')}"
        )
        yield f"Largest     {largest}"
        if self.largest[0] > 0:
            limit = short_number(2 / self.largest[0])
            yield f"            gradient descent is stable along it at rates below {limit}"
        yield f"Smallest    {short_number(self.smallest)}"
        yield f"Trace       {short_number(self.trace)} ± {short_number(self.trace_error)}"
        yield (
            f"Spectrum    {self.near_zero:.2%} of the eigenvalues within 1 % of the largest, "
            f"{self.negative:.2%} below -1 %"
        )
        yield ""
        width = max(len(layer.name) for layer in self.layers)
        yield f"{'layer':{width}s} {'weights':>12s} {'trace':>10s} {'±':>9s}"
        for layer in self.layers:
            trace, error = short_number(layer.trace), short_number(layer.trace_error)
            yield f"{layer.name:{width}s} {layer.num_parameters:>12,} {trace:>10s} {error:>9s}"

    def picture(self, name: str) -> SpectrumPicture:
        """Return the spectrum and the traces as a picture.

        Args:
            name: Name of the model.
        """
        return SpectrumPicture(
            title=f"{name}: eigenvalues of the Hessian of the training loss",
            num_parameters=self.num_parameters,
            grid=self.grid,
            density=self.density,
            largest=self.largest,
            layers=[layer.name for layer in self.layers],
            traces=[layer.trace for layer in self.layers],
            errors=[layer.trace_error for layer in self.layers],
        )


def curvature(predictor: Predictor, on_progress: RowProgress | None = None) -> Curvature:
    """Compute the curvature of the training loss of a model.

    Args:
        predictor: From `regard.load` or `regard.train`.
        on_progress: Hears of the computation.

    Returns:
        The figures.

    Raises:
        ConfigError: The model was not trained here, or its loss is not finite.
        DataError: The training data is missing or has changed.
    """
    start = time.monotonic()
    objective = TrainingObjective(open_training(predictor))
    counter = _Products(on_progress, objective.num_spread(_PRODUCT_TOKENS))
    generator = torch.Generator(objective.model.device).manual_seed(_SEED)
    loss, gradient = objective.loss_and_gradient(_PRODUCT_TOKENS)
    if not math.isfinite(loss):
        raise ConfigError(f"the training loss is {loss}, which has no curvature.")
    with objective.hessian(_PRODUCT_TOKENS, counter.add_rows) as operator:
        vectors = max(_FEWEST_VECTORS, min(_MOST_VECTORS, _MOST_BYTES // (4 * operator.size)))
        nodes = min(_DENSITY_NODES, vectors)
        counter.expect(vectors + _NUM_LARGEST + _DENSITY_PROBES * nodes + _NUM_PROBES)
        pairs = _largest(operator, vectors, generator)
        spectrum = spectral_density(
            operator,
            operator.size,
            _DENSITY_PROBES,
            nodes,
            generator=generator,
            num_points=_NUM_POINTS,
            width=float(pairs.values.abs().max()) * _SMOOTHING or None,
        )
        traces = _block_traces(operator, list(objective.parameters), generator)
    magnitude = max(float(pairs.values.abs().max()), float(spectrum.nodes.abs().max()))
    total = torch.stack(list(traces.values())).sum(0)  # [probes]
    sizes = {name: parameter.numel() for name, parameter in objective.parameters.items()}
    return Curvature(
        data=objective.setup.dataset.path,
        unit=objective.setup.dataset.unit,
        num_rows=counter.num_rows,
        num_parameters=operator.size,
        loss=loss,
        gradient_norm=float(torch.linalg.vector_norm(gradient)),
        largest=pairs.values.tolist(),
        bounds=pairs.bounds.tolist(),
        smallest=min(float(spectrum.nodes.min()), float(pairs.values.min())),
        trace=float(total.mean()),
        trace_error=_standard_error(total),
        near_zero=_fraction(spectrum, spectrum.nodes.abs() <= _NEAR_ZERO * magnitude),
        negative=_fraction(spectrum, spectrum.nodes < -_NEAR_ZERO * magnitude),
        layers=[
            LayerCurvature(
                name=layer,
                num_parameters=sum(size for name, size in sizes.items() if layer_of(name) == layer),
                trace=float(values.mean()),
                trace_error=_standard_error(values),
            )
            for layer, values in traces.items()
        ],
        grid=spectrum.grid.tolist(),
        density=spectrum.density.tolist(),
        num_products=counter.num_products,
        seconds=round(time.monotonic() - start, 1),
    )


def _largest(operator: CurvatureOperator, vectors: int, generator: torch.Generator) -> Eigenpairs:
    """Compute the largest eigenvalues, holding this many vectors at most."""
    number = min(_NUM_LARGEST, operator.size)
    return top_eigenvalues(
        operator,
        operator.size,
        number,
        generator=generator,
        rtol=1e-2,
        max_iterations=max(number, vectors),
    )


def _block_traces(
    operator: CurvatureOperator, names: Sequence[str], generator: torch.Generator
) -> dict[str, Tensor]:
    """Estimate the trace of each layer's block of the diagonal.

    Args:
        operator: The Hessian, of shape ``[n, n]``.
        names: Of the weights.
        generator: Draws the signs.

    Returns:
        ``z . H z`` over the weights of each layer, ``[probes]``, float64, by the layer's name.
    """
    samples: dict[str, list[Tensor]] = {}
    for _ in range(_NUM_PROBES):
        signs = random_signs(operator.size, generator, operator.dtype)
        products = operator.unflatten(signs * (operator @ signs))
        sums: dict[str, Tensor] = {}
        for name, part in zip(names, products, strict=True):
            layer, value = layer_of(name), part.double().sum().cpu()
            sums[layer] = sums[layer] + value if layer in sums else value
        for layer, value in sums.items():
            samples.setdefault(layer, []).append(value)
    return {layer: torch.stack(values) for layer, values in samples.items()}


def _standard_error(values: Tensor) -> float:
    """Return the standard error of the mean of samples, ``[probes]``."""
    return float(values.std() / len(values) ** 0.5)


def _fraction(spectrum: SpectralDensity, is_there: Tensor) -> float:
    """Return the fraction of the eigenvalues at some nodes, ``[nodes]``."""
    return float(spectrum.weights[is_there].sum())


class _Products:
    """Counts the rows and the products of a computation for those who wait.

    Args:
        on_progress: Hears of them; None where nobody does.
        num_rows: Rows of a product.
    """

    def __init__(self, on_progress: RowProgress | None, num_rows: int) -> None:
        self._on_progress, self.num_rows = on_progress, num_rows
        self._done, self._total = 0, 0

    @property
    def num_products(self) -> int:
        """Products so far."""
        return self._done // self.num_rows

    def expect(self, num_products: int) -> None:
        """Begin to count, up to a number of products."""
        self._done, self._total = 0, num_products * self.num_rows

    def add_rows(self, num_rows: int) -> None:
        """Count the rows of a batch."""
        self._done += num_rows
        if self._on_progress is not None and self._total:
            self._on_progress("Curvature", min(self._done, self._total), self._total)
