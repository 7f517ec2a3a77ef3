"""Labelled/unlabelled splits of a fully labelled dataset: ``nnunet-dycon split``."""
