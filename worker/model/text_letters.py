#!/usr/bin/env python3
"""Write text_letters.inc: what every character that mojibake is made of stands for.

    python3 worker/model/text_letters.py > worker/model/text_letters.inc

The bytes come from Python's codecs. The classes are those of ftfy 6.3.1 (Apache-2.0, Robyn Speer): a repair that
gives what ftfy gives must sort characters as it does, so they are read from the installed package.
"""
import re

from ftfy.badness import MOJIBAKE_CATEGORIES
from ftfy.chardata import CHARMAP_ENCODINGS, UTF8_CLUES

CLASSES = {
    "COMMON": MOJIBAKE_CATEGORIES["common"],
    "C1": MOJIBAKE_CATEGORIES["c1"],
    "BAD": MOJIBAKE_CATEGORIES["bad"],
    "LAW": MOJIBAKE_CATEGORIES["law"],
    "CURRENCY": MOJIBAKE_CATEGORIES["currency"],
    "OPENING": MOJIBAKE_CATEGORIES["start_punctuation"],
    "CLOSING": MOJIBAKE_CATEGORIES["end_punctuation"],
    "NUMERIC": MOJIBAKE_CATEGORIES["numeric"],
    "KAOMOJI": MOJIBAKE_CATEGORIES["kaomoji"],
    "UPPER_ACCENTED": MOJIBAKE_CATEGORIES["upper_accented"],
    "LOWER_ACCENTED": MOJIBAKE_CATEGORIES["lower_accented"],
    "UPPER_PLAIN": MOJIBAKE_CATEGORIES["upper_common"],
    "LOWER_PLAIN": MOJIBAKE_CATEGORIES["lower_common"],
    "BOX": MOJIBAKE_CATEGORIES["box"],
    "FIRST_OF_2": UTF8_CLUES["utf8_first_of_2"],
    "FIRST_OF_3": UTF8_CLUES["utf8_first_of_3"],
    "FIRST_OF_4": UTF8_CLUES["utf8_first_of_4"],
    "CONTINUATION": UTF8_CLUES["utf8_continuation"],
    "SURE_CONTINUATION": UTF8_CLUES["utf8_continuation_strict"],
}


def decode(byte, encoding):
    """What a byte from 0x80 on means; in a sloppy encoding, itself where it has no meaning."""
    name = encoding.removeprefix("sloppy-")
    try:
        return bytes([byte]).decode(name)
    except UnicodeDecodeError:
        return chr(byte)


def main():
    letters = {}
    for i, encoding in enumerate(CHARMAP_ENCODINGS):
        for byte in range(0x80, 0x100):
            letters.setdefault(ord(decode(byte, encoding)), [0] * len(CHARMAP_ENCODINGS))[i] = byte
        if encoding.startswith("sloppy-"):  # SUBSTITUTE: a byte that was lost
            letters.setdefault(0xfffd, [0] * len(CHARMAP_ENCODINGS))[i] = 0x1a
    patterns = {name: re.compile(f"[{characters}]") for name, characters in CLASSES.items()}
    for point in range(0x10000):
        if any(pattern.match(chr(point)) for pattern in patterns.values()):
            letters.setdefault(point, [0] * len(CHARMAP_ENCODINGS))
    print("/* Made by text_letters.py: code point, classes, its byte in every encoding (0: it has none).")
    print(" * clang-format off */")
    for point, row in sorted(letters.items()):
        names = [name for name, pattern in patterns.items() if pattern.match(chr(point))]
        print(f"{{0x{point:04x}, {' | '.join(names) or '0'}, {{{', '.join(f'0x{b:02x}' if b else '0' for b in row)}}}}},")


if __name__ == "__main__":
    main()
