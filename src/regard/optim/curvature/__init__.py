"""Products with curvature matrices, linear solves, spectra, trace and diagonal."""
