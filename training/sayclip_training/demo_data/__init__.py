"""The demo's pictures, names, keywords and splits, made from Debian packages alone."""
