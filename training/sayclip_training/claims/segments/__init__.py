"""Segmental SpeechCLIP's and SpeechCLIP's claims, measured with ``sayclip train speech``."""
