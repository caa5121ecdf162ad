"""From a trained model to text: greedy and beam search over one cache protocol."""
