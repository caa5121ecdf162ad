"""The garbage collector during the start of a command.

By default it looks through all objects again and again while modules are imported, which leave
no garbage: a tenth of the time of ``import torch``.
"""

from __future__ import annotations

import gc


def defer_collection() -> None:
    """Collect nothing while modules are imported and a model is opened."""
    gc.disable()


def collect_as_usual() -> None:
    """End what `defer_collection` began: what there is by now is not looked through again."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
