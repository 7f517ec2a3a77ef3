"""Evaluation of segmentations: Dice, Jaccard, HD95 and ASD of masks, folders and several runs."""
