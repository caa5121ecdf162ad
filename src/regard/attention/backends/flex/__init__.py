"""FlexAttention (Dong et al. 2024) on a GPU: value and first derivative by compiled kernels."""

from regard.attention.backends.flex.flex_attention import attend, refusal, remember_failure

__all__ = ["attend", "refusal", "remember_failure"]
