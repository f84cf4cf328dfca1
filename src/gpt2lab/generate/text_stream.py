"""Text from tokens as they come: no piece ends inside a character, and none shows a part of a stop string."""

import codecs
from collections.abc import Sequence
from copy import copy


class TextStream:
    """The text of one continuation; `push` gives what a further token makes certain.

    It ends before the stop string that is complete first (of several that end at the same character, before the
    longest), wherever the borders of tokens fall. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self, token_bytes: Sequence[bytes], stops: tuple[str, ...]) -> None:
        self.stopped = False
        self._token_bytes, self._stops = token_bytes, stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held_back = ""

    def push(self, token: int) -> str:
        """The text that is certain now and was not before."""
        return self._certain(self._decoder.decode(self._token_bytes[token]))

    def finish(self) -> str:
        """What was held back, now that no token follows; a character cut short becomes U+FFFD."""
        if self.stopped:
            return ""
        text = self._certain(self._decoder.decode(b"", final=True)) + self._held_back
        self._held_back = ""
        return text

    def fork(self) -> "TextStream":
        """A second stream that goes on from here by itself."""
        twin = copy(self)
        twin._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        twin._decoder.setstate(self._decoder.getstate())
        return twin

    def _certain(self, text: str) -> str:
        if not self._stops:
            return text
        pending = self._held_back + text
        found = [(start + len(stop), start) for stop in self._stops if (start := pending.find(stop)) >= 0]
        if found:
            self.stopped, self._held_back = True, ""
            return pending[: min(found)[1]]
        certain = len(pending) - self._beginning_of_a_stop(pending)
        self._held_back = pending[certain:]
        return pending[:certain]

    def _beginning_of_a_stop(self, text: str) -> int:
        """Characters at the end of `text` that may turn out to be the beginning of a stop string."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
