"""DistilBERT (Sanh et al. 2019): a `Bert` of half the layers, without segments.

"DistilBERT, a distilled version of BERT". Its checkpoint format alone is here.
"""
