"""Secrets in command lines, names of data and errors, kept out of what is recorded."""

from __future__ import annotations

import re

IN_URL = re.compile(r"(?<=://)[^/@\s'\"]+(?=@)")
"""A user's name and password, or a token, before the host of a URL."""
NAMED = re.compile(
    r"((?:\b|_)(?:api_?key|access_?key|private_?key|secret|password|passwd|token|credential|sig|"
    r"signature)\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s'\",&)]+)",
    re.IGNORECASE,
)
"""A value whose name says that it is secret, such as `api_key='...'` or `X-Amz-Signature=...`."""


def redacted(text: str) -> str:
    """Returns a text with *** in place of what looks like a secret."""
    return NAMED.sub(r"\1***", IN_URL.sub("***", text))
