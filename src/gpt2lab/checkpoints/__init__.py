"""The one place that knows the file formats of weights."""
