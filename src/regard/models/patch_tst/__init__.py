"""The patched Transformer for time series."""
