"""Slices, contours and figures."""
