"""The order and the normal numbers again, in Python's own integers and floats: slow, plain, and sharing no code."""

import hashlib
import json
import math
import statistics

MASK = 2**64 - 1


def key(domain: str, seed: int, *counters: int | str) -> int:
    """The key that a domain and a seed give for some counters."""
    content = json.dumps(["treering/key", domain, seed, *counters], ensure_ascii=False, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "little")


def mix(value: int) -> int:
    """SplitMix64's finaliser."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def hashed(value: int, first: int, second: int) -> int:
    """A value's hash under two keys."""
    return mix(mix(value ^ first) ^ second)


def sequence_id(sequences: int, seed: int, position: int) -> int:
    """The sequence at a position, one number at a time."""
    epoch, place = divmod(position, sequences)
    keys = [key("order/round", seed, epoch, number) for number in range(16)]
    rows = math.isqrt(sequences - 1) + 1
    columns = -(-sequences // rows)
    while True:
        upper, lower = divmod(place, columns)
        for start in range(0, 16, 4):
            upper = (upper + hashed(lower, keys[start], keys[start + 1])) % rows
            lower = (lower + hashed(upper, keys[start + 2], keys[start + 3])) % columns
        place = upper * columns + lower
        if place < sequences:
            return place


def uniform(domain: str, seed: int, name: str, index: int) -> float:
    """The number in (0, 1) that a place of a stream is made from."""
    first, second = (key(domain, seed, name, half) for half in range(2))
    bits = hashed((index * 0x9E3779B97F4A7C15) & MASK, first, second)
    return ((bits >> 12) + 0.5) / 2**52


def normal(domain: str, seed: int, name: str, index: int) -> float:
    """The standard normal number at a place of a stream, with the standard library's quantile."""
    return statistics.NormalDist().inv_cdf(uniform(domain, seed, name, index))
