"""CamemBERT (Martin et al. 2020): RoBERTa on French texts.

"CamemBERT: a Tasty French Language Model". Its checkpoint format alone is here.
"""
