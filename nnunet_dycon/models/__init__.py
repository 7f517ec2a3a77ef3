"""Trained models: checkpoints, export, prediction with entropy."""
