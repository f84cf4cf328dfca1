"""Text from a model: sampling filters, decoding with a KV cache, and the object that users hold."""
