"""Methods of attribution compared by their faithfulness, next to random scores.

    python benchmarks/explain.py MODEL_FOLDER TEST_FILE [--rows 200] [--outputs 2]
        [--methods ig,occlusion] [--soft] [--json]

The rows are drawn from the test file, which the task of the model reads; what is explained is the
model's own output for each. A row's outputs are explained one by one, evenly spread ones.

Figures: comprehensiveness, sufficiency, their difference, by which the methods are ranked, and
Kendall's tau with leave-one-out, means over the rows with 95 % bootstrap intervals; how far each
method is behind the best one, by paired bootstrap; seconds a row. `first_method` of
the predictions (`regard.explain.prediction`) holds the winners.
"""

from __future__ import annotations

import argparse
import sys

import msgspec

import regard
from regard.explain.faithfulness import compare_methods, open_rows
from regard.explain.faithfulness.method_comparison import MOST_OUTPUTS


def main() -> None:
    """Compare the methods and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--outputs", type=int, default=MOST_OUTPUTS)
    parser.add_argument("--methods")
    parser.add_argument("--soft", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = open_rows(regard.load(options.model), options.data, num_rows=options.rows)
    result = compare_methods(
        rows,
        options.methods.split(",") if options.methods else None,
        most_outputs=options.outputs,
        is_soft=options.soft,
        on_progress=_show_progress,
    )
    print(file=sys.stderr)
    if options.json:
        print(msgspec.json.encode(result).decode())
        return
    for line in result.lines():
        print(line)
    for name, method in result.methods.items():
        soft = ""
        if method.soft_comprehensiveness is not None and method.soft_sufficiency is not None:
            soft = f", Soft-NC {method.soft_comprehensiveness.value:.2f}"
            soft += f", Soft-NS {method.soft_sufficiency.value:.2f}"
        print(f"{name}: {method.seconds:.2f} s a row{soft}")


def _show_progress(done: int, total: int) -> None:
    print(f"\r{done:,} of {total:,} rows", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
