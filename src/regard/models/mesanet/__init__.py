"""MesaNet (von Oswald et al. 2025): a decoder whose layers solve least squares over their past."""
