"""Readers: files of any kind and in any state become pages."""
