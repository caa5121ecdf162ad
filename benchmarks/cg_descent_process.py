"""Minimize with the `pycgdescent` package in a process of its own, which asks for evaluations.

    PYTHON benchmarks/cg_descent_process.py SIZE MEMORY TOLERANCE

The package has a license (GPL) that our process must not take on, so `benchmarks/optimizers.py`
starts this file with an interpreter that the user names. Numbers are float64, as bytes. It reads
the starting point from the standard input, then writes requests to the standard output, each a
letter and a point, and reads the answer: ``v`` is answered by the value, ``g`` by the gradient,
``b`` by the value and the gradient. It writes ``e`` when it ends.
"""

from __future__ import annotations

import importlib
import os
import sys

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


class Asker:
    """The function, its gradient and both at once, as the package calls them.

    Args:
        size: the number n of variables.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._reader = sys.stdin.buffer
        self._writer = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # what the package might print is not a request

    def read(self, count: int) -> Points:
        """Read numbers; end where the other process has ended."""
        data = self._reader.read(8 * count)
        if len(data) < 8 * count:
            sys.stderr.flush()
            os._exit(0)  # an exception would have to pass through the package's C code
        return np.frombuffer(data, dtype=np.float64)

    def ask(self, letter: bytes, x: Points, count: int) -> Points:
        """Send a request and wait for the answer."""
        self._writer.write(letter + np.ascontiguousarray(x, dtype=np.float64).tobytes())
        self._writer.flush()
        return self.read(count)

    def value(self, x: Points) -> float:
        """Ask for the value."""
        return float(self.ask(b"v", x, 1)[0])

    def gradient(self, out: Points, x: Points) -> None:
        """Ask for the gradient."""
        out[:] = self.ask(b"g", x, self._size)

    def both(self, out: Points, x: Points) -> float:
        """Ask for the value and the gradient."""
        answer = self.ask(b"b", x, 1 + self._size)
        out[:] = answer[1:]
        return float(answer[0])

    def end(self) -> None:
        """Report that the minimization is over."""
        self._writer.write(b"e")
        self._writer.flush()


def main() -> None:
    """Minimize one function."""
    size, memory, tolerance = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    package = importlib.import_module("pycgdescent")
    asker = Asker(size)
    package.minimize(
        asker.value,
        asker.read(size).copy(),
        jac=asker.gradient,
        funjac=asker.both,
        tol=tolerance,
        options=package.OptimizeOptions(memory=memory),
    )
    asker.end()


if __name__ == "__main__":
    main()
