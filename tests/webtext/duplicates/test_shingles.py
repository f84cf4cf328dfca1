import random

import xxhash

from gpt2lab.webtext.duplicates.shingles import shingles

ODD = [
    *[
        "",
        " ",
        "\u3000",
        "a",
        " a ",
        "a b",
        "a b c d",
        "a b c d e",
        "a b c d e f",
        "x\0 \0x",
        "\ud800 x",
        "日本語\u3000テキスト",
    ],
    *[
        "no\u00a0break",
        "\u2003x\u2028y\u2029z\u202fa\u205fb\u1680c\x85d",
        "zero\u200bwidth joined\u2060word",
        "\x1c\x1d\x1e\x1f",
    ],
    *[
        "é" * 200 + " z",
        "x" * 100_000,
        " ".join("x" * n for n in range(70)),
        "word " * 1000,
        "a",
        "",
        "",
        "a\u2003",
        "â€",
    ],
]


def words_of(text: str) -> list[str]:
    return text.encode(errors="replace").decode().split()


def check(texts: list[str]) -> None:
    """Hashes as they are promised, and one and only one for each different gram."""
    hash_of: dict[tuple[str, ...], int] = {}
    done = 0
    for some in shingles(texts):
        for n, text_hash in enumerate(some.text_hashes):
            words = words_of(texts[done])
            size = min(5, len(words))
            expected = [tuple(words[k : k + size]) for k in range(len(words) - size + 1)] if words else []
            found = some.grams[some.offsets[n] : some.offsets[n + 1]].tolist()
            assert text_hash == xxhash.xxh3_128_digest(" ".join(words).encode())
            assert len(found) == len(expected)
            for gram, hashed in zip(expected, found, strict=True):
                assert hash_of.setdefault(gram, hashed) == hashed
            done += 1
    assert done == len(texts)
    assert len(set(hash_of.values())) == len(hash_of)


def test_words_are_those_of_split_and_equal_grams_have_equal_hashes():
    check(ODD)
    for text in ODD:
        check([text])


def test_any_mixture_of_letters_and_white_space():
    chooser = random.Random(5)
    letters = "ab  \n\t\u3000\u00a0\u2003éß日本â\u200b\x1f\x85\U0001f600\xc2"
    check(["".join(chooser.choices(letters, k=chooser.randrange(80))) for _ in range(5000)])


def test_grams_do_not_depend_on_what_texts_come_together():
    alone = [next(iter(shingles([text]))) for text in ODD]
    together = next(iter(shingles(ODD)))
    for n, one in enumerate(alone):
        assert one.grams.tolist() == together.grams[together.offsets[n] : together.offsets[n + 1]].tolist()
    assert list(shingles([])) == []
