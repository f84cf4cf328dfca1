"""Text to token ids and back: byte-level BPE, token shards on disk, and the loader that reads them."""
