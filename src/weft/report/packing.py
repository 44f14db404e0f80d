"""Numbers of a text as one short string, for a page that carries some hundred thousand of them.

A packed list is ``<width><digits>;<rest>``. ``width`` is ``1`` to ``4``; ``digits`` are as many digits of
base 64 (:data:`DIGITS`, highest first) for each number. A number whose digits are all the last one (``_``)
does not fit, or is not known: ``rest`` holds it, as ``<place>=<number>`` with commas between; if it is not
there it is not known. An empty list is ``""``. The width is the one that takes the fewest characters, about::

    [3, 70, None]  ->  "2ADBG__;"         [3, 2, 70]  ->  "1DC_;2=70"

Half the size of JSON, and nothing is lost: :func:`unpacked` gives back what was packed. The other side is
``page/packing.js``. Typed arrays in base64 would take as much for two bytes each, and more for small ones.

It does not know what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
WIDTHS = (1, 2, 3, 4)
_BESIDE = 8
"""Characters that a number takes which does not fit, about."""
_VALUES = {digit: value for value, digit in enumerate(DIGITS)}


def packed(numbers: Sequence[int | None]) -> str:
    """Whole numbers, ``None`` where one is not known, as a string of safe characters of ASCII."""
    if not numbers:
        return ""
    return _with_width(numbers, min(WIDTHS, key=lambda width: _taken(numbers, width)))


def unpacked(text: str) -> list[int | None]:
    """What was packed.

    Raises:
        ValueError: the string is none of :func:`packed`'s.
    """
    if not text:
        return []
    try:
        width = WIDTHS[WIDTHS.index(int(text[0]))]
        digits, _, rest = text[1:].partition(";")
        places = (one.split("=") for one in rest.split(",") if one)
        beside = {int(place): int(number) for place, number in places}
        found: list[int | None] = []
        for at in range(0, len(digits), width):
            value = 0
            for digit in digits[at : at + width]:
                value = 64 * value + _VALUES[digit]
            found.append(beside.get(at // width) if value == 64**width - 1 else value)
    except (KeyError, ValueError) as error:
        raise ValueError(f"not a packed list: {text[:40]!r}") from error
    return found


def _with_width(numbers: Sequence[int | None], width: int) -> str:
    unfit = 64**width - 1
    beside = ",".join(
        f"{place}={number}"
        for place, number in enumerate(numbers)
        if number is not None and not 0 <= number < unfit
    )
    digits = "".join(
        _digits(number if number is not None and 0 <= number < unfit else unfit, width) for number in numbers
    )
    return f"{width}{digits};{beside}"


def _taken(numbers: Sequence[int | None], width: int) -> int:
    """Characters of the packed list, about."""
    unfit = 64**width - 1
    return width * len(numbers) + _BESIDE * sum(n is not None and not 0 <= n < unfit for n in numbers)


@lru_cache(maxsize=1 << 14)
def _digits(value: int, width: int) -> str:
    return "".join(DIGITS[value >> 6 * place & 63] for place in range(width - 1, -1, -1))
