"""What is seen of a run while it goes on and afterwards: metrics, progress, samples, norms, trackers, the report."""
