"""Random numbers of many generators at once: the first ones of NumPy's, one generator per row.

A generator per image makes its draws independent of the rest of the batch, but creating one takes
longer than everything else a batch needs on the host. Here the generators of all rows are computed
side by side. NumPy guarantees the results: the streams of ``SeedSequence`` and ``PCG64`` are fixed
(NEP 19).

Reference: O'Neill (2014), PCG: a family of simple fast space-efficient statistically good
algorithms for random number generation; O'Neill (2015), Developing a seed_seq alternative.
"""

from collections.abc import Iterator
from itertools import count, cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[Any]  # uint32
Wide = tuple[NDArray[Any], NDArray[Any]]  # uint64; 128 bits: the high half, the low one
_POOL = 4  # words of a SeedSequence
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645  # of PCG64
_HALF = 0xFFFFFFFF


def uniform(key: tuple[int, ...], rows: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """Compute ``default_rng((*key, row)).random(n)`` for each row.

    Args:
        key: integers ≥ 0.
        rows: (N,), integers from 0 to 2³² - 1.
        n: numbers per row.

    Returns:
        (N, n), in [0, 1).

    >>> rows = np.array([7, 1])
    >>> one_by_one = [np.random.default_rng((3, 0, int(row))).random(2) for row in rows]
    >>> np.array_equal(uniform((3, 0), rows, 2), one_by_one)
    True
    """
    words = [w for number in key for w in _words(number)]
    entropy = [np.full(len(rows), w, np.uint32) for w in words] + [rows.astype(np.uint32)]
    return np.stack(list(islice(_pcg64(*_seeds(_pool(entropy))), n)), axis=1)


def _words(number: int) -> list[int]:
    """Split an integer into 32-bit words, the lowest first; 0 has one word."""
    return [number >> shift & 0xFFFFFFFF for shift in range(0, max(number.bit_length(), 1), 32)]


def _constants(first: int, multiplier: int) -> Iterator[np.uint32]:
    return (np.uint32(first * pow(multiplier, i, 1 << 32) & 0xFFFFFFFF) for i in count())


def _hashed(word: Words, constants: Iterator[np.uint32]) -> Words:
    """Hash a word with a constant and the next one, which the following hash starts with."""
    before, after = next(constants), next(constants)
    word = (word ^ before) * after
    return word ^ word >> 16


def _paired(constants: Iterator[np.uint32]) -> Iterator[np.uint32]:
    """Repeat every constant but the first, as `_hashed` takes two and uses each one twice."""
    yield next(constants)
    for constant in constants:
        yield constant
        yield constant


def _pool(entropy: list[Words]) -> list[Words]:
    """Mix the entropy into the pool, as ``SeedSequence.mix_entropy``."""
    constants = _paired(_constants(0x43B0D7E5, 0x931E8875))
    empty = np.zeros_like(entropy[-1])
    pool = [_hashed(entropy[i] if i < len(entropy) else empty, constants) for i in range(_POOL)]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = _mixed(pool[target], _hashed(pool[source], constants))
    for word in entropy[_POOL:]:
        pool = [_mixed(target, _hashed(word, constants)) for target in pool]
    return pool


def _mixed(x: Words, y: Words) -> Words:
    word: Words = x * np.uint32(0xCA01F9DD) - y * np.uint32(0x4973F715)
    return word ^ word >> 16


def _seeds(pool: list[Words]) -> tuple[Wide, Wide]:
    """Compute PCG64's two seeds, as ``SeedSequence.generate_state``."""
    constants = _paired(_constants(0x8B51F9DD, 0x58F38DED))
    words = [_hashed(word, constants).astype(np.uint64) for word in islice(cycle(pool), 8)]
    longs: list[Any] = [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]
    return (longs[0], longs[1]), (longs[2], longs[3])


def _pcg64(seed: Wide, stream: Wide) -> Iterator[NDArray[Any]]:
    """Yield the generators' numbers in [0, 1), as ``Generator.random``."""
    step = stream[0] << 1 | stream[1] >> 63, stream[1] << 1 | 1
    state = _add(_times_multiplier(_add(step, seed)), step)
    while True:
        state = _add(_times_multiplier(state), step)
        high, low = state
        folded, turn = high ^ low, high >> 58
        bits = folded >> turn | folded << (64 - turn & 63)
        yield (bits >> 11) * 2.0**-53


def _add(x: Wide, y: Wide) -> Wide:
    low = x[1] + y[1]
    return x[0] + y[0] + (low < x[1]), low


def _times_multiplier(x: Wide) -> Wide:
    """Multiply modulo 2¹²⁸, in halves of 32 bits."""
    high, low = x
    factor_high, factor_low = map(np.uint64, divmod(_MULTIPLIER, 1 << 64))
    first, second = low & _HALF, low >> 32
    one, two = factor_low & np.uint64(_HALF), factor_low >> np.uint64(32)
    middle = (first * one >> 32) + (first * two & _HALF) + (second * one & _HALF)
    carry = second * two + (first * two >> 32) + (second * one >> 32) + (middle >> 32)
    return high * factor_low + low * factor_high + carry, low * factor_low
