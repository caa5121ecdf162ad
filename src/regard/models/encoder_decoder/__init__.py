"""An encoder and a decoder of other families joined (Rothe, Narayan & Severyn 2020)."""
