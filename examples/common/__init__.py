"""Data sets and architectures that the example scripts share."""
