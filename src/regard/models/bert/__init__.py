"""BERT (Devlin, Chang, Lee & Toutanova 2019): an encoder trained to predict masked tokens."""
