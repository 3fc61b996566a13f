"""IPA to phoneme ids, and words to IPA where espeak-ng is installed."""
