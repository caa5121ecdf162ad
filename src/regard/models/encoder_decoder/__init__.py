"""An encoder-decoder of an encoder and a decoder of other families."""
