"""Transformer-XL (Dai et al. 2019): a decoder with a memory of the segment before."""
