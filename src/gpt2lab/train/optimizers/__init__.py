"""Optimizers of our own, and the parameter groups a recipe states."""
