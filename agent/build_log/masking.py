"""Keeping secrets out of a log: each is replaced by `****`, however the output is cut into pieces. Pure."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK = b"****"
# A line of a secret that is shorter says nothing, and would tear holes into every log.
_SHORTEST_LINE = 4


class Masker:
    """Masks one stream. What may be the beginning of a secret is held back until more comes.

    The result is that of masking all of the output at once: leftmost first, and of those the longest.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)), re.DOTALL) if self._secrets else None
        self._held = b""

    def feed(self, data: bytes | memoryview) -> tuple[bytes | memoryview, int]:
        """The masked text that is certain now, and how many more bytes of the stream it stands for.

        Without secrets it is the very memory that was given.
        """
        if self._pattern is None:
            return data, len(data)
        text = b"".join((self._held, data))
        masked, at = self._mask(self._pattern, text)
        self._held = text[at:]
        return masked, at

    def flush(self) -> tuple[bytes, int]:
        """The rest, at the end of the stream: what was held back was no secret after all, or holds shorter ones."""
        rest, self._held = self._held, b""
        return (self._pattern.sub(MASK, rest) if self._pattern else rest), len(rest)

    def whole(self, text: bytes) -> bytes:
        """A text of its own, masked."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def _mask(self, pattern: re.Pattern[bytes], text: bytes) -> tuple[bytes, int]:
        """The certain part, masked, and where it ends."""
        end = self._certain(text, 0)
        if not any(secret in text for secret in self._secrets):  # many times faster than the pattern
            return text[:end], end
        parts: list[bytes] = []
        at = 0
        for match in pattern.finditer(text):
            if match.start() >= end:
                break
            parts += (text[at : match.start()], MASK)
            at = match.end()
            # It began before anything that may still grow; what began inside of it does not count.
            end = max(end, at) if end >= at else self._certain(text, at)
        parts.append(text[at:end])
        return b"".join(parts), end

    def _certain(self, text: bytes, start: int) -> int:
        """Where the first beginning of a secret is, at or after `start`, that the text's end cuts off."""
        return min((self._cut(text, secret, start) for secret in self._secrets), default=len(text))

    @staticmethod
    def _cut(text: bytes, secret: bytes, start: int) -> int:
        at = text.find(secret[:1], max(start, len(text) - len(secret) + 1))
        while at >= 0 and not secret.startswith(text[at:]):
            at = text.find(secret[:1], at + 1)
        return at if at >= 0 else len(text)


def _forms(secret: str) -> Iterator[bytes]:
    """The secret as it is, its lines, and as tools write it: in base64, and quoted for a URL."""
    whole = secret.encode("utf-8", "surrogateescape")
    for each in {whole, whole.strip()} - {b""}:
        yield each
        yield base64.b64encode(each)
        yield base64.urlsafe_b64encode(each)
        yield quote(each, safe="").encode()
        yield quote_plus(each).encode()
    lines = whole.splitlines()
    yield from (line for line in lines if len(lines) > 1 and len(line) >= _SHORTEST_LINE)
