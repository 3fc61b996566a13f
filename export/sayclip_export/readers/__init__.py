"""Readers of published checkpoints: configuration, weights, preprocessing and tokenizer, refused if they disagree."""
