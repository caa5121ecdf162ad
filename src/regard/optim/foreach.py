"""PyTorch's operations on lists of tensors: one call for all, as its own optimizers make it."""

# pyright: reportPrivateImportUsage=false

import torch

foreach_add_ = torch._foreach_add_
foreach_div = torch._foreach_div
foreach_lerp = torch._foreach_lerp
foreach_lerp_ = torch._foreach_lerp_
foreach_mul_ = torch._foreach_mul_
foreach_norm = torch._foreach_norm
