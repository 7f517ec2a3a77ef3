"""Unlabelled scans: finding, preprocessing, reading and loading them beside nnU-Net's labelled ones."""
