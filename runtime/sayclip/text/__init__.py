"""Text to token ids: CLIP's byte-pair encoding without any dependency."""
