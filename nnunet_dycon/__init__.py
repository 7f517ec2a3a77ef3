"""Semi-supervised nnU-Net with DyCON: trainers, losses and data tools."""

__version__ = "0.1.0"
