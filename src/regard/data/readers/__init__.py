"""Readers of files, one module a format."""
