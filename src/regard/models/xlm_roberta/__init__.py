"""XLM-RoBERTa (Conneau et al. 2020): RoBERTa on texts of a hundred languages.

"Unsupervised Cross-lingual Representation Learning at Scale". Its checkpoint format alone is here.
"""
