"""How much of the evaluation sets is in the documents: measured, reported, and removed by `build`."""
