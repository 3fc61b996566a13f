"""Results of ``sayclip bench``: the document, its tables and pictures, and what differs between two of them."""
