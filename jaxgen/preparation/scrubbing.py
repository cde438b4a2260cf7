"""Replaces personal data by its kind: e-mail, telephone, internet addresses, card numbers."""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
import re

EMAIL = re.compile(
    r"\b[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}\b"
)
IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]|\.\d)")
CARD = re.compile(r"(?<![\d.-])(?:\d[ -]?){12,18}\d(?![\d.-])")
PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)|\d{1,4})(?:[ .-]?\d{2,4}){2,4}"
    r"|\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-])"
)


@dataclasses.dataclass(frozen=True)
class Scrub:
    """The replacement of each kind of personal data; None leaves a kind alone.

    Attributes:
      email: addresses with a domain.
      ip: version 4 and 6 addresses that are valid and public.
      card: 13 to 19 digits that pass the check of Luhn (ISO/IEC 7812-1).
      phone: numbers with a country code, or written as in North America.
    """

    email: str | None = "<email>"
    ip: str | None = "<ip>"
    card: str | None = "<card>"
    phone: str | None = "<phone>"

    def apply(self, text: str, counts: collections.Counter[str]) -> str:
        """Returns the text without personal data; adds to the counts by kind."""

        def replace(kind: str, pattern: re.Pattern[str], mark: str | None, is_one) -> None:
            nonlocal text
            if mark is None:
                return

            def one(found: re.Match[str]) -> str:
                if not is_one(found.group()):
                    return found.group()
                counts[kind] += 1
                return mark

            text = pattern.sub(one, text)

        replace("email", EMAIL, self.email, lambda _: True)
        replace("ip", IPV4, self.ip, is_public_address)
        replace("ip", IPV6, self.ip, is_public_address)
        replace("card", CARD, self.card, passes_luhn)
        replace("phone", PHONE, self.phone, lambda _: True)
        return text


def is_public_address(text: str) -> bool:
    """Returns whether it is an address of the public internet; `a::b` is more often code."""
    if ":" in text and sum(map(bool, text.split(":"))) < 3:
        return False
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def passes_luhn(text: str) -> bool:
    """Returns whether a number's check digit is valid."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
