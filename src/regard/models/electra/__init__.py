"""ELECTRA (Clark et al. 2020): a `Bert` that was trained to find replaced tokens.

"ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators". Its tables may have
another size than its states. Its checkpoint format alone is here.
"""
