"""Pipelines: a few lines each over the storeys below."""
