"""Texts that are there twice, or nearly."""
