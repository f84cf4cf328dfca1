"""Strings that tokenizers get wrong: mixed scripts, emoji, control characters, runs of white space, look-alikes."""

import random

POOLS = (
    "abc xyz ABC",
    "   \t\n\r\x0b\x0c\x1c\x85\xa0\u1680\u2003\u2028\u202f\u3000",
    "\x00\x01\x07\x1b\x7f\x80\x9f",
    "éüñßœĳŉ",
    "日本語テキスト々〇",
    "한국어한",
    "العربية٠١٢",
    "עִברית",
    "हिन्दीक्ष",
    "ไทยน้ำ",
    "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪👍🏽❤️☃1️⃣",
    "0123456789½²Ⅷ௧𝟘",
    "!?.,;:-_()[]{}#$%&*+/=@^`~|\\\"'",
    "\u0301\u0345\u200b\u200d\u2060\ufeff\ufffd\U0010ffff\ue000",
    "𝔘𝕏𐍈𠀋",
    "İıſKǅ",
    "\u088f\U000323b0\U00011de1",  # letters and a digit that are new in Unicode 17
)
WORDS = (
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "’s", "''", " the", " and", "ing", "<|endoftext|>",
    "<|endoftext|", "|endoftext|>", "<|ENDOFTEXT|>", "<|im_start|>", "<|endoftext|><|endoftext|>", "Ġ", "Ċ", "ĠĠ",
)  # fmt: skip
SPACES = (" ", "  ", "\n", "\n\n", " \n ", "\t", "\r\n", "\xa0 ")


def strange_strings(count: int, seed: int = 1) -> list[str]:
    """The same `count` strings for the same seed."""
    chooser = random.Random(seed)
    return [_string(chooser) for _ in range(count)]


def _string(chooser: random.Random) -> str:
    pieces = []
    for _ in range(chooser.randint(0, 12)):
        pool, way = chooser.choice(POOLS), chooser.random()
        if way < 0.45:
            pieces += chooser.choices(pool, k=chooser.randint(1, 8))
        elif way < 0.6:
            pieces.append(pool)
        elif way < 0.7:
            pieces.append(chooser.choice(pool) * chooser.randint(1, 40))
        elif way < 0.8:
            ranges = ((0, 0x300), (0x300, 0xD800), (0xE000, 0x3400), (0xE000, 0x110000))
            pieces.append(chr(chooser.randrange(*sorted(chooser.choice(ranges)))))
        else:
            pieces.append(chooser.choice(WORDS))
        if chooser.random() < 0.4:
            pieces.append(chooser.choice(SPACES))
    return "".join(pieces).encode("utf-8", "ignore").decode()  # without halves of surrogate pairs
