"""Decoding on a processor at the speed of its memory: numba kernels, written as vectors of 16 lanes, without torch.

A result never depends on the number of threads, on the rows computed beside it, or on how wide the machine's vectors
are: every number is summed in one order, which the kernels spell out.
"""
