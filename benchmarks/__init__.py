"""Measures torchconv against torch: python -m benchmarks --help."""
