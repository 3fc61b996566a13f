"""The command line, ``sayclip``."""
