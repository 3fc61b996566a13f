"""What the papers claim, measured on the open test bed: an experiment is one arm with one seed and leaves one JSON."""
