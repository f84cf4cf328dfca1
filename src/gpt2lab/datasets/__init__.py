"""Readers of documents and of the published evaluation sets: items and raw text. Imports only `base`."""
