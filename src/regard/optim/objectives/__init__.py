"""What deterministic methods minimise: protocols, closures, plain functions, whole data sets."""
