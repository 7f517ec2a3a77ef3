"""Where a network is unsure: pictures during training, and entropy maps and numbers of a prediction."""
