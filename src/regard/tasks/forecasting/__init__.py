"""Forecasting: the quantiles of what follows the history of a series."""
