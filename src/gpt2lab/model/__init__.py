"""The network, its sizes, its cost."""
