"""Recurrent encoder-decoders (Sutskever, Vinyals & Le 2014) and their decoder alone."""
