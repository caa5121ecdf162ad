"""ModernBERT (Warner et al. 2024): an encoder of long texts with windows in most layers."""
