"""One script a claim, peers beside us: `python -m benchmarks.NAME [--json FILE] [--quick]`."""
