"""Byte-pair encoding's merges: of a word's neighbouring tokens those of the lowest rank are joined, over and over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

# Keys of pairs and of queue entries are packed into one int: quicker to hash and to compare than tuples.
_PAIR_SHIFT = 24
_PLACE_SHIFT = 32


class Merging:
    """``merging(ids)``: the ids of one word's bytes, merged; may be used by several threads."""

    def __init__(self, ids: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
        """``ids`` of every token, below 2^24; ``merges``: pairs of tokens by rank, whose joined form is a token too."""
        pairs = [ids[first] << _PAIR_SHIFT | ids[second] for first, second in merges]
        self._ranks = dict(zip(pairs, range(len(pairs)), strict=True))
        self._merged = [ids[first + second] for first, second in merges]

    def __call__(self, ids: list[int]) -> list[int]:
        """Joins neighbours by rank, the leftmost of equal ranks first, in O(n log n)."""
        ranks, merged = self._ranks, self._merged
        queue: list[int] = []
        for place in range(len(ids) - 1):
            rank = ranks.get(ids[place] << _PAIR_SHIFT | ids[place + 1])
            if rank is not None:
                queue.append(rank << _PLACE_SHIFT | place)
        if not queue:
            return ids
        heapify(queue)
        end = len(ids)
        following = list(range(1, end + 1))
        previous = list(range(-1, end - 1))
        mask = (1 << _PLACE_SHIFT) - 1
        while queue:
            entry = heappop(queue)
            place, rank = entry & mask, entry >> _PLACE_SHIFT
            right = following[place]
            # An entry is stale when one of its two has since been merged away (-1) or changed.
            if right == end or ids[place] < 0 or ranks.get(ids[place] << _PAIR_SHIFT | ids[right]) != rank:
                continue
            joined = ids[place] = merged[rank]
            ids[right] = -1
            right = following[place] = following[right]
            if right != end:
                previous[right] = place
                rank_right = ranks.get(joined << _PAIR_SHIFT | ids[right])
                if rank_right is not None:
                    heappush(queue, rank_right << _PLACE_SHIFT | place)
            left = previous[place]
            if left >= 0:
                rank_left = ranks.get(ids[left] << _PAIR_SHIFT | joined)
                if rank_left is not None:
                    heappush(queue, rank_left << _PLACE_SHIFT | left)
        return [number for number in ids if number >= 0]
