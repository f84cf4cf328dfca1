"""What every storey stands on: errors, whole-or-absent files, progress, reports. Knows nothing of language models."""
