"""Mutations of files: bytes that are flipped, dropped, repeated or inserted."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

#: The same examples every time, so that a failure is due to a change of the code.
fuzz = settings(derandomize=True, max_examples=80, deadline=None, database=None)


@st.composite
def spoilt(draw: DrawFn, originals: list[bytes]) -> bytes:
    """One of the originals after one to four mutations."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["flip", "cut", "drop", "insert", "repeat", "zero"])):
            case "flip" if at < len(content):
                content[at] ^= draw(st.integers(1, 255))
            case "cut":
                del content[at:]
            case "drop":
                del content[at : at + draw(st.integers(1, 40))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=12))
            case "repeat":
                content[at:at] = content[max(0, at - 50) : at]
            case "zero":
                length = min(draw(st.integers(1, 60)), len(content) - at)
                content[at : at + length] = bytes(length)
    return bytes(content)
