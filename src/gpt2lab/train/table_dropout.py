"""Dropout of the embedding tables, as in the independent replication of GPT-2, not of the sum of embeddings."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn import functional as F  # noqa: N812

from gpt2lab.model.gpt2 import GPT2


@contextmanager
def dropped_tables(network: GPT2) -> Iterator[None]:
    """Within this context, the network's embedding tables are themselves after dropout at its rate for embeddings.

    Each number of `wpe` and `wte` is dropped or not once, when the context is entered, for all places that look it up,
    and for a head that is tied to `wte`; there is then no dropout of the sum (ConnorJL/GPT2, `models/gpt2/gpt2.py`).
    Gradients reach the tables through the masks. Masks and dropped tables are held until then.
    """
    tables = [(embedding, embedding.weight) for embedding in (network.wpe, network.wte)]
    rate, network.dropout.p = network.dropout.p, 0.0
    try:
        for embedding, table in tables:
            del embedding.weight  # a parameter's place takes nothing but parameters
            embedding.weight = F.dropout(table, rate)
        yield
    finally:
        for embedding, table in tables:
            del embedding.weight
            embedding.weight = table
        network.dropout.p = rate
