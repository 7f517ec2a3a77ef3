"""Semi-supervised nnU-Net with DyCON: trainers, losses and data tools."""

__version__ = "0.2.0"
