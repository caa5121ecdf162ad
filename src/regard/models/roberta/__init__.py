"""RoBERTa (Liu et al. 2019): a `Bert` with one kind of segment and positions after the padding's.

"RoBERTa: A Robustly Optimized BERT Pretraining Approach". Its checkpoint format alone is here.
"""
