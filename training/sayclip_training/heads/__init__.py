"""``sayclip train speech``: heads on a frozen speech encoder, learnt from pairs of pictures and recordings."""
