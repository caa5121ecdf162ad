"""T5 (Raffel et al. 2020): an encoder-decoder with biases by distance; T5 v1.1, mT5 and umT5."""
