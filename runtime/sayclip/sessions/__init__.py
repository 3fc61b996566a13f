"""Sessions: one graph on one inference backend, and the choice among backends and precisions."""
