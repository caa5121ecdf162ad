"""Processes, which are threads here, that exchange matrices of which each has some rows."""

import threading

import pytest
import torch

from regard.optim.matrix_sharing import MatrixSharing

SHAPES = [[(7, 3), (2, 5)], [], [(1, 4)]]  # of the matrices of each process
TEMPLATE = torch.empty(0, dtype=torch.float64)


def draw(shape, rank):
    generator = torch.Generator().manual_seed(100 * shape[0] + 10 * shape[1] + rank)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def on_threads(number, compute):
    """Return what each of some processes computes with what connects it to the others."""
    barrier, sent = threading.Barrier(number, timeout=20), [None] * number
    results = [None] * number

    def run(index):
        def all_to_all(tensors, sizes):
            sent[index] = tensors
            barrier.wait()
            received = [tensors[index] for tensors in sent]
            barrier.wait()
            assert list(map(len, received)) == list(sizes)
            return received

        results[index] = compute(MatrixSharing(index, number, print, all_to_all))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("number", [1, 2, 3])
def test_rows_that_are_gathered_make_the_matrices(number):
    shapes = SHAPES[:number]

    def compute(sharing):
        parts = [
            [draw(shape, 0)[sharing.rows(shape[0], sharing.index)] for shape in part]
            for part in shapes
        ]
        return sharing.gather(parts, shapes[sharing.index], TEMPLATE)

    for part, matrices in zip(shapes, on_threads(number, compute), strict=True):
        assert [tuple(matrix.shape) for matrix in matrices] == part
        expected = [draw(shape, 0) for shape in part]
        assert all(map(torch.equal, matrices, expected))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_process_gets_its_rows_of_all_matrices(number):
    shapes = SHAPES[:number]

    def compute(sharing):
        matrices = [draw(shape, 0) for shape in shapes[sharing.index]]
        return sharing.scatter(matrices, shapes, TEMPLATE)

    results = on_threads(number, compute)
    for part_index, part in enumerate(shapes):
        for matrix_index, shape in enumerate(part):
            rows = [result[part_index][matrix_index] for result in results]
            assert torch.equal(torch.cat(rows), draw(shape, 0))
            torch.testing.assert_close(rows[0], draw(shape, 0).chunk(number)[0], atol=0, rtol=0)
