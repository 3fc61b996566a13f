"""Measurements of bundles: what they find, how fast, and in how much space."""
