"""Torch definitions of the encoders, torch to ONNX, verification, and the writing of bundles."""
