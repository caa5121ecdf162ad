"""RoBERTa (Liu et al. 2019): a `Bert` with one token type, whose positions begin at 2.

"RoBERTa: A Robustly Optimized BERT Pretraining Approach". Its checkpoint format alone is here.
"""
