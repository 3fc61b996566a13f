"""The open test bed of ``sayclip train demo-data``: pictures, scenes, words and speech from Debian packages alone."""
