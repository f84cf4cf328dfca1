"""De-tokenizers: from a set's words with spaces between them to text as people write it, one file a set.

`none` leaves a text as it is; names such as `megatron` and `lm-eval` are other people's rules, kept with their defects
for comparison; `roundtrip` is ours and loses nothing (see `roundtrip`).
"""
