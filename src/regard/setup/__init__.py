"""From settings and data to a run: resolve, build, estimate."""
