"""The IPA chart, and phoneme inventories made from it."""
