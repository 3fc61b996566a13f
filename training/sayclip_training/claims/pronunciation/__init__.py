"""IPA-CLIP's claims (Matsuhira et al. 2023, arXiv 2303.03144), measured with ``sayclip train pronunciation``."""
