"""Ranks and shares beside a published list."""

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.webtext.links.domain_comparison import compare_domains, read_published_domains, spearman


def test_rank_correlation_shares_the_ranks_of_equals():
    assert spearman([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: Pearson's r of them by hand is 4.5 / sqrt(4.5 * 5)
    assert spearman([1, 2, 2, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_shares_are_of_the_links_in_the_lists_domains():
    ours = [("b", 6, 0), ("c", 2, 0), ("x", 90, 0), ("y", 4, 0)]
    found = compare_domains([("a", 50), ("b", 30), ("c", 20)], ours)
    assert [(row.domain, row.their_rank, row.our_rank, row.our_share) for row in found.domains] == [
        ("a", 1, None, 0.0),
        ("b", 2, 1, 0.75),
        ("c", 3, 2, 0.25),
    ]
    assert (found.our_links_in_list, found.our_links, found.in_both) == (8, 102, 2)
    assert found.only_ours == [("x", 90), ("y", 4)]


def test_nothing_in_common_is_no_error():
    found = compare_domains([("a", 50)], [("b", 1, 0)])
    assert (found.in_both, found.rank_correlation, found.domains[0].our_share) == (0, None, 0.0)


@pytest.mark.parametrize("text", ["google 1\n", "5 a\n7 a\n", "", "5\n", "1 2 3\n", "('reddit', 1259962)\n"])
def test_a_list_of_another_form_is_refused(text, tmp_path):
    (tmp_path / "domains.txt").write_text(text)
    with pytest.raises(BadInput, match="domains"):
        read_published_domains(tmp_path / "domains.txt")
