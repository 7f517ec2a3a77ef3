"""What this package does to a process of nnU-Net, apart from training."""
