"""Faithfulness: whether scores of features agree with what the model does without them."""

from regard.explain.faithfulness.evaluated_rows import open_rows
from regard.explain.faithfulness.measure import (
    FaithfulnessMeter,
    Measures,
    measure_faithfulness,
)
from regard.explain.faithfulness.method_comparison import (
    MethodComparison,
    MethodFaithfulness,
    compare_methods,
)

__all__ = [
    "FaithfulnessMeter",
    "Measures",
    "MethodComparison",
    "MethodFaithfulness",
    "compare_methods",
    "measure_faithfulness",
    "open_rows",
]
