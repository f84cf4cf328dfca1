import random
from itertools import combinations

from datasketch import MinHash

from gpt2lab.webtext.duplicates.dedup import PERMUTATIONS, _min_hashes, _sketch, find_duplicates, rows_per_band

RANDOM = random.Random(7)
VOCABULARY = [f"word{n}" for n in range(2000)]


def grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    n = min(5, len(words))
    return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)} if words else set()


def jaccard(a: str, b: str) -> float:
    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


def changed(text: str, words: int) -> str:
    out = text.split()
    for place in RANDOM.sample(range(len(out)), words):
        out[place] = RANDOM.choice(VOCABULARY)
    return " ".join(out)


def collection() -> list[tuple[str, str]]:
    """40 texts of 200 words, and edits of them with anything from none to 60 words changed."""
    originals = [" ".join(RANDOM.choices(VOCABULARY, k=200)) for _ in range(40)]
    edits = [changed(text, RANDOM.choice([0, 1, 2, 3, 4, 5, 6, 8, 20, 60])) for text in originals for _ in range(2)]
    texts = originals + edits
    return [(f"{n:04d}", text) for n, text in enumerate(texts)]


def brute_force_components(documents: list[tuple[str, str]], threshold: float) -> dict[str, frozenset[str]]:
    component = {id_: frozenset([id_]) for id_, _ in documents}
    gram_sets = [(id_, grams(text)) for id_, text in documents]
    for (a, a_grams), (b, b_grams) in combinations(gram_sets, 2):
        if component[a] is not component[b] and len(a_grams & b_grams) / len(a_grams | b_grams) >= threshold:
            joined = component[a] | component[b]
            component.update(dict.fromkeys(joined, joined))
    return component


def test_finds_what_brute_force_finds_and_nothing_else():
    documents = collection()
    texts = dict(documents)
    for threshold in (0.8, 0.6):
        expected = brute_force_components(documents, threshold)
        found = find_duplicates(documents, threshold)
        for component in set(expected.values()):
            survivor = min(component, key=lambda id_: (-len(texts[id_]), id_))
            assert survivor not in found
            for id_ in component - {survivor}:
                assert found[id_].duplicate_of == survivor
                assert found[id_].similarity == jaccard(texts[id_], texts[survivor])
                assert found[id_].exact == (texts[id_] == texts[survivor])
        assert len(found) == sum(len(component) - 1 for component in set(expected.values()))


def test_the_same_stay_whatever_the_order():
    documents = collection()
    expected = find_duplicates(documents)
    for _ in range(3):
        RANDOM.shuffle(documents)
        assert find_duplicates(documents) == expected


def test_texts_that_differ_in_white_space_are_exact_duplicates_and_the_longest_stays():
    found = find_duplicates([("a", "one two three"), ("b", "one  two\n three"), ("c", "one two"), ("d", "")], None)
    assert list(found) == ["a"]
    assert (found["a"].duplicate_of, found["a"].similarity, found["a"].exact) == ("b", 1.0, True)


def test_tiny_and_empty_texts_are_no_trouble():
    assert find_duplicates([]) == {}
    assert find_duplicates([("a", ""), ("b", "x"), ("c", "y"), ("d", "x y"), ("e", "x y z v")]) == {}
    assert list(find_duplicates([("a", "x y"), ("b", "x y"), ("c", ""), ("d", "")])) == ["b", "d"]


def test_near_duplicates_can_be_left_alone():
    text = " ".join(VOCABULARY[:100])
    documents = [("a", text), ("b", text + " more")]
    assert list(find_duplicates(documents)) == ["a"]
    assert find_duplicates(documents, None) == {}


def test_bands_find_the_pairs_at_the_threshold():
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9):
        rows = rows_per_band(threshold)
        assert 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= 0.999


def test_min_hashes_estimate_similarity_as_well_as_datasketch():
    documents = collection()[:1] + [(f"x{n}", changed(collection()[0][1], 5 * n)) for n in range(1, 12)]
    first, *others = documents
    ours = _min_hashes([sketch.grams for sketch in _sketch(documents)[0]])

    def theirs(text: str) -> MinHash:
        sketch = MinHash(num_perm=PERMUTATIONS)
        for gram in grams(text):
            sketch.update(" ".join(gram).encode())
        return sketch

    errors = [
        (
            abs((ours[0] == ours[n]).mean() - jaccard(first[1], text)),
            abs(theirs(first[1]).jaccard(theirs(text)) - jaccard(first[1], text)),
        )
        for n, (_, text) in enumerate(others, start=1)
    ]
    our_error, their_error = (sum(side) / len(errors) for side in zip(*errors, strict=True))
    assert our_error < max(0.05, 1.5 * their_error)
