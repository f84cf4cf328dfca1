"""Our domains beside WebText's: OpenAI published the 1,000 it has most pages of, as lines of a count and a name."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput


@dataclass(frozen=True)
class ComparedDomain:
    """A domain of the published list. Shares are of all links in the list's domains, theirs and ours."""

    domain: str
    their_rank: int
    their_count: int
    their_share: float
    our_rank: int | None
    our_count: int
    our_share: float


@dataclass(frozen=True)
class DomainComparison:
    """Ours beside theirs. `rank_correlation` is Spearman's over the domains that both have, None below three."""

    domains: list[ComparedDomain]
    in_both: int
    rank_correlation: float | None
    our_links_in_list: int
    our_links: int
    only_ours: list[tuple[str, int]]
    """our domains with most links that are not in the list"""


def read_published_domains(path: Path) -> list[tuple[str, int]]:
    """(name, count) of lines such as `1542261 google`. Raises BadInput with the line that is not so.

    One line of the published file is a count without a name; such lines are passed over.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: can't be read as a list of domains ({error}).") from None
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or (len(words) == 1 and words[0].isdecimal()):
            continue
        if len(words) != 2 or not words[0].isdecimal() or len(words[0]) > 15 or words[1].lower() in found:
            raise BadInput(f"{path}: line {number:,} is not a count and a new name, as in `1542261 google`.")
        found[words[1].lower()] = int(words[0])
    if not sum(found.values()):
        raise BadInput(f"{path}: holds no domains; give lines such as `1542261 google`.")
    return list(found.items())


def compare_domains(published: list[tuple[str, int]], ours: Iterable[tuple[str, int, int]]) -> DomainComparison:
    """Put our (name, links, karma) of every domain beside the published list; `ours` is read once and may be long."""
    names = {name for name, _ in published}
    counted: dict[str, int] = {}
    others: list[tuple[str, int]] = []
    total = 0
    for name, count, _ in ours:
        total += count
        if name in names:
            counted[name] = count
            continue
        others.append((name, count))
        if len(others) > 10_000:
            others = sorted(others, key=lambda row: (-row[1], row[0]))[:20]
    their_total, our_total = sum(count for _, count in published), sum(counted.values())
    our_ranks = {name: rank for rank, name in enumerate(sorted(counted, key=lambda name: (-counted[name], name)), 1)}
    ordered = sorted(published, key=lambda row: (-row[1], row[0]))
    rows = [
        ComparedDomain(
            domain=name,
            their_rank=rank,
            their_count=count,
            their_share=count / their_total,
            our_rank=our_ranks.get(name),
            our_count=counted.get(name, 0),
            our_share=counted.get(name, 0) / our_total if our_total else 0.0,
        )
        for rank, (name, count) in enumerate(ordered, 1)
    ]
    both = [row for row in rows if row.our_count]
    return DomainComparison(
        domains=rows,
        in_both=len(both),
        rank_correlation=spearman([row.their_count for row in both], [row.our_count for row in both]),
        our_links_in_list=our_total,
        our_links=total,
        only_ours=sorted(others, key=lambda row: (-row[1], row[0]))[:20],
    )


def spearman(left: list[int], right: list[int]) -> float | None:
    """Spearman's rank correlation, equal values sharing the mean of their ranks; None where it is not defined."""
    if len(left) < 3 or len(set(left)) < 2 or len(set(right)) < 2:
        return None
    return float(np.corrcoef(_ranks(left), _ranks(right))[0, 1])


def _ranks(values: list[int]) -> NDArray[np.float64]:
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2.0)[place]
    return ranks
