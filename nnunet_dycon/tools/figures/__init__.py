"""Figures of a finished training for a publication: PDF with vectors, and PNG."""
