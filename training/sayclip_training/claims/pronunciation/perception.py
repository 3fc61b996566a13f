"""How often people take one English consonant for another, from a published experiment.

G. A. Miller and P. E. Nicely, "An analysis of perceptual confusions among some English consonants", Journal of the
Acoustical Society of America 27 (1955), 338-352: listeners wrote down which of 16 consonants before the vowel /ɑ/ they
had heard in noise. The figures are those of its six conditions with flat noise put together and made symmetrical, as
the R package clue holds them (K. Hornik, clue 0.3-64, data set ``Phonemes``): the probability that one consonant of a
pair is taken for the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SOURCE = "Miller and Nicely 1955, flat noise, as in R package clue 0.3-64, Phonemes"
CONSONANTS = tuple("ptkfθsʃbdɡvðzʒmn")
VOWEL = "ɑ"  # which followed each

# A row for each consonant but the last: against those that come after it.
_CONFUSED = """
.229 .432 .101 .124 .052 .038 .022 .025 .013 .016 .028 .025 .019 .025 .017
.241 .057 .079 .050 .050 .013 .022 .016 .022 .016 .023 .017 .022 .018
.077 .084 .063 .047 .018 .020 .030 .020 .018 .025 .019 .021 .020
.423 .066 .030 .046 .025 .015 .035 .032 .018 .007 .016 .012
.157 .048 .045 .041 .039 .040 .031 .033 .017 .019 .018
.115 .024 .031 .033 .023 .026 .035 .022 .017 .013
.012 .033 .021 .020 .018 .017 .012 .012 .011
.058 .069 .210 .145 .055 .027 .038 .024
.342 .059 .094 .106 .089 .024 .032
.054 .120 .139 .125 .032 .030
.338 .080 .029 .030 .022
.161 .033 .034 .028
.136 .021 .016
.016 .030
.151
"""


def confusions() -> NDArray[np.float64]:
    """Symmetric [16, 16] of probabilities, in the order of ``CONSONANTS``; 0 on the diagonal, which is not given."""
    size = len(CONSONANTS)
    table = np.zeros((size, size))
    for row, line in enumerate(_CONFUSED.split("\n")[1:-1]):
        table[row, row + 1 :] = [float(cell) for cell in line.split()]
    return table + table.T
