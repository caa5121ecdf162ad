"""LSTM with attention."""
