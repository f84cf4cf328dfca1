"""The paper's tasks and the user's own, one file each: protocol, options, items to score, metrics."""
