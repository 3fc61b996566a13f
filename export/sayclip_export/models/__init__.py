"""Torch definitions of every encoder; each module names its paper."""
