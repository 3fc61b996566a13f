"""Recipes for encoders that nobody publishes, and the training of the demo bundle."""
