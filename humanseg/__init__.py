"""Experiment suite for human segmentation: networks that separate people from their background."""

__version__ = "0.1.0"
