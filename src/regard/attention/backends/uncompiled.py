"""Blockwise attention between the graphs that ``torch.compile`` builds.

What the compiled operator does not take is computed as without compilation. Traced, its loops over
blocks would become many small graphs, compiled again for every length.
"""

from __future__ import annotations

from typing import Any

import torch

from regard.attention.blockwise.combine import blockwise_attention

blockwise_attention_uncompiled: Any = torch.compiler.disable(
    blockwise_attention,
    reason="attention of many pairs with a score, bias or pattern of one's own, or with return_lse",
)
