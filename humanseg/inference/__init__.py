"""From photographs to probabilities: what runs a network, and what is done to its answer."""
