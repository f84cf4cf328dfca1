"""A quick start of numba, for a process that does nothing but generate."""


def start_numba_without_extensions() -> None:
    """Keep numba from importing what our kernels never use: 0.4 of the first 1.5 s, measured.

    Its first function asks whether there is a BLAS by importing all of scipy.linalg, and lets every installed package
    that registered itself with numba (awkward, and pyarrow with it) do so. Afterwards, in this process, numba knows
    nothing of such packages; it is therefore called by the command line alone. Where numba has changed inside, it
    starts as ever.
    """
    from numba.core import entrypoints
    from numba.np import linalg

    entrypoints._already_initialized = True
    asked = getattr(linalg, "ensure_blas", None)
    if asked is None:
        return
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = asked
