"""Texts of any number for tests."""

NAMES = ["amber", "birch", "cedar", "dune", "elm", "fern", "grove", "heath", "iris", "juniper", "kelp", "larch", "moss"]


def prose(number: int, lines: int = 6) -> str:
    """A text of its own for every number."""

    def name(n: int) -> str:
        return NAMES[(number + n) % len(NAMES)] + NAMES[number * (n + 1) % len(NAMES)] + NAMES[number // len(NAMES)]

    return "\n".join(
        f"On {name(n)} day the people of {name(n + 1)} walked to the {name(n + 2)} and had {name(n + 3)} bread."
        for n in range(lines)
    )
