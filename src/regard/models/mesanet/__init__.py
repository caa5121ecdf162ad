"""MesaNet."""
