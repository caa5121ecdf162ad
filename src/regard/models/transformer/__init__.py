"""The Transformer (Vaswani et al. 2017), its decoder and its encoder alone; Marian and BART."""
