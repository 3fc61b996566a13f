"""Synthesised speech: espeak-ng (in process) and flite (its command), and the distortions put on it."""
