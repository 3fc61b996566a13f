"""Cold starts: fresh processes from nothing to a first result, sayclip beside PyTorch and optimum."""
