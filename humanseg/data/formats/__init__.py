"""Formats of data sets, each as it lies on disk: photographs with labels that say where people are."""
