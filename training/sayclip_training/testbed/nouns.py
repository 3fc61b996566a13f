"""Which pictures show a thing that scenes can be made of, and the one word for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sayclip_training.demo_data.names import Emoji

GROUPS = frozenset(["Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects"])
COUNT = 150
"""So few that every noun is in several scenes and every colour of it in some: else no combination could be kept out."""

SAID = {"red apple": "apple", "automobile": "car", "soccer ball": "ball", "open book": "book", "mobile phone": "phone",
        "hot beverage": "coffee", "wrapped gift": "gift", "artist palette": "palette", "fire engine": "engine",
        "teacup without handle": "teacup", "alarm clock": "clock", "evergreen tree": "tree"}  # fmt: skip
"""What people call a thing whose name has several words or is seldom said."""

ALWAYS = frozenset(["apple", "car"])
NO_THINGS = frozenset(
    ["foggy", "wedding", "sunrise", "sunset", "fog", "motorway", "locked", "unlocked", "joker", "hole", "dizzy",
     "collision", "station", "metro", "houses", "rock", "wood", "droplet", "wing", "skis", "badminton", "bowling",
     "camping", "cityscape", "construction", "cooking", "desert", "dna", "lacrosse", "tennis", "bacon", "bread",
     "broccoli", "butter", "custard", "fire", "flatbread", "garlic", "ice", "luggage", "mate", "popcorn", "sake",
     "salt", "soap", "spaghetti", "sushi", "thread", "yarn"]
)  # fmt: skip
"""Names of one word for what is a scene itself, a pastime, a state, a mere part, several, or no single thing."""


def nouns(emoji: Sequence[Emoji], seed: int, count: int = COUNT) -> dict[str, int]:
    """Noun to picture number, ``count`` of them chosen by hash, in alphabetical order."""
    found: dict[str, int] = {}
    for number, item in enumerate(emoji):
        noun = SAID.get(item.name, item.name)
        if item.group in GROUPS and _is_noun(noun):
            found.setdefault(noun, number)
    order = sorted(
        found, key=lambda noun: (noun not in ALWAYS, hashlib.sha256(f"{seed} noun {noun}".encode()).digest())
    )
    return {noun: found[noun] for noun in sorted(order[:count])}


def _is_noun(word: str) -> bool:
    plain = word.isalpha() and word.isascii() and word.islower() and word not in NO_THINGS
    plural = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return plain and not plural
