"""How English writes its phonemes: the table behind plausible misspellings.

For every phoneme, as espeak-ng's en-us has it, the graphemes that write it, the usual ones first; the standard survey
of them is Carney, A Survey of English Spelling (Routledge 1994). The table holds what every reader of English knows, no
counts; whether a spelling made by it is read as wanted is for espeak-ng to say.

``^x`` stands at the beginning of a word only, ``x$`` at its end only, ``-x`` never at its beginning; ``a_e`` is an
``a`` whose ``e`` stands behind the next consonant, the word's last.
"""

from __future__ import annotations

CONSONANTS = {
    "p": "p -pp", "b": "b -bb", "t": "t -tt ed$ -bt", "ɾ": "-tt t -dd d", "d": "d -dd ed$", "ʔ": "t -tt",
    "k": "c k -ck ch -cc que$ -kk", "ɡ": "g -gg ^gh gu -gh", "f": "f ph -ff -gh fe$", "v": "v ve$ -vv f$",
    "θ": "th", "ð": "th the$", "s": "s -ss c ce$ se$ sc ^ps", "z": "z s se$ -zz ze$ ^x",
    "ʃ": "sh ch -ti -ci s -ssi", "ʒ": "-s zh ge$ -si j", "h": "h ^wh", "tʃ": "ch -tch -t",
    "dʒ": "j g -dge ge$ -dj -dg", "m": "m -mm -mb$ me$", "n": "n -nn ^kn ne$ ^gn", "ŋ": "ng n", "l": "l -ll le$",
    "ɹ": "r -rr ^wr ^rh", "w": "w wh u", "j": "y i",
}  # fmt: skip
"""Consonants."""

VOWELS = {
    "æ": "a ah", "ɑː": "o a ah aw -au", "ɛ": "e ea ai", "ɪ": "i y e ui", "ᵻ": "i e a y", "i": "y$ ie$ ey$ ee$ i e ea",
    "iː": "ee ea e ie i e_e ey$ y$ ei", "ʌ": "u o ou -oo", "ə": "a e o u i ou -er$ -ah$", "ɐ": "a u o",
    "ɚ": "er or ar ur ir re$ our -ur$", "ɜː": "er ir ur ear or", "ʊ": "oo u ou", "u": "u oo ew",
    "uː": "oo u ew ue$ u_e ou o ui", "oʊ": "o oa ow o_e oe$ -oh$", "oː": "o aw oa", "ɔ": "o aw au",
    "ɔː": "aw au o a al ough", "aɪ": "i y igh i_e ie$ y$ ye$ -eye", "aʊ": "ou ow", "a": "a ah",
    "eɪ": "a ai ay a_e ei ey$ eigh", "ɔɪ": "oi oy", "ɑːɹ": "ar are$ aar", "ɔːɹ": "or ore$ oar our oor ar",
    "oːɹ": "or ore$ oar our oor", "ɪɹ": "eer ear ere$ ier ir", "ɛɹ": "air are$ ear er ar", "ʊɹ": "oor ure$ our ur",
    "aɪɚ": "ire$ yer ier yre$ igher", "aɪə": "ia yo io ya", "iə": "ia ea io eo", "aʊɚ": "our ower",
    "əl": "-le$ al el il -ul", "n̩": "en on -an in", "l̩": "-le$ al el",
}  # fmt: skip
"""Vowels, among them those that hold an r, l or n."""

GROUPS = {
    ("k", "s"): "x -cks -cs", ("k", "w"): "qu kw", ("ɡ", "z"): "-x", ("j", "uː"): "u ew u_e ue$ yoo",
    ("t", "s"): "ts -tz",
    ("ə", "n"): "en on -an in", ("ə", "m"): "-um em om", ("z", "ə", "m"): "-sm", ("ɹ", "ə"): "-re -ra -ro",
    ("ʃ", "ə", "n"): "-tion -sion -cian -shun", ("ʒ", "ə", "n"): "-sion -tion", ("tʃ", "ɚ"): "-ture$ -cher",
    ("w", "ʌ"): "wo ^o", ("aʊ", "ɚ"): "our ower", ("aɪ", "ɚ"): "ire$ yer ier",
}  # fmt: skip
"""Several phonemes that one grapheme writes, or that are written otherwise together."""

SHORT = frozenset(["æ", "ɛ", "ɪ", "ᵻ", "ʌ", "ʊ", "ɑː", "ə"])
"""Vowels after which English doubles a consonant letter."""
