"""Links and codes by which a page is answered: HMACs of the page's id, so that nothing secret lies in a row.

The cast: `token_of` and `page_of` (what stands in a link), `code_of` and `is_code` (the four digits that acknowledging
needs beside it), `reply_key` (by which a reply finds the pages of the address that it came from, without the address).

The promise: the same page has the same token and code however often it is sent, before and after a crash. The first
storage key makes them and all keys verify them, so that links live on through a change of keys. No token says anything
but its page's id, and nobody makes one without a key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from email.utils import parseaddr
from uuid import UUID

from shared.keys import KeyRing
from shared.vocabulary import ChannelName

PATH = "/a/"
"""Where the link page is: short, because an SMS carries it."""

CODE_DIGITS = 4
VERIFICATION_TYPE = "contact_point.verification"
VERIFICATION_DIGITS = 6
"""A code that its reader types beside a token of their own, which four digits are not enough for."""
MAC_BYTES = 12
"""96 bits: out of reach of guessing over the network, and a token of 38 characters."""

TOKEN_CHARACTERS = 38

REPLY_KEY_BYTES = 16

_TOKEN, _CODE, _REPLY = "redphone link token 1", "redphone answer code 1", "redphone reply key 1"
_VERIFICATION = "redphone verification code 1"


def token_of(keys: KeyRing, page_id: UUID) -> str:
    """The token of a page's link: its id and a MAC, base64url."""
    return _encode(page_id.bytes + _mac(keys.derived(_TOKEN)[0], page_id))


def page_of(keys: KeyRing, token: str) -> UUID | None:
    """The page of a token, or None for whatever none of our keys made."""
    if len(token) != TOKEN_CHARACTERS:
        return None
    try:
        raw = base64.b64decode(token + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    # A second text for the same bytes (other bits at the end, other letters) is no token of ours.
    if not hmac.compare_digest(_encode(raw).encode(), token.encode()):
        return None
    page_id = UUID(bytes=raw[:16])
    found = [hmac.compare_digest(raw[16:], _mac(key, page_id)) for key in keys.derived(_TOKEN)]
    return page_id if any(found) else None


def link_of(public_url: str, keys: KeyRing, page_id: UUID) -> str:
    """The address of the page's link page."""
    return f"{public_url.rstrip('/')}{PATH}{token_of(keys, page_id)}"


def code_of(keys: KeyRing, page_id: UUID) -> str:
    """The four digits of a page."""
    return _code(keys.derived(_CODE)[0], page_id)


def is_code(keys: KeyRing, page_id: UUID, code: str) -> bool:
    """Whether these are the page's digits, as one of our keys makes them."""
    given = code.encode()
    found = [hmac.compare_digest(_code(key, page_id).encode(), given) for key in keys.derived(_CODE)]
    return any(found)


def verification_code_of(keys: KeyRing, page_id: UUID) -> str:
    """The six digits that show that a contact point was reached, for the page that takes them there."""
    return _code(keys.derived(_VERIFICATION)[0], page_id, VERIFICATION_DIGITS)


def is_verification_code(keys: KeyRing, page_id: UUID, code: str) -> bool:
    """Whether these are the six digits of that page, as one of our keys makes them."""
    made = (_code(key, page_id, VERIFICATION_DIGITS).encode() for key in keys.derived(_VERIFICATION))
    return any(hmac.compare_digest(one, code.encode()) for one in made)


def reply_key(keys: KeyRing, channel: str, address: str) -> bytes:
    """What is kept of an address beside its pages: a reply finds them by it, and nobody reads the address from it."""
    return reply_keys(keys, channel, address)[0]


def reply_keys(keys: KeyRing, channel: str, address: str) -> tuple[bytes, ...]:
    """The same by each of our keys: what a reply is looked for by."""
    told = f"{_family(channel)}:{normalised(channel, address)}".encode()
    return tuple(hmac.digest(key, told, "sha256")[:REPLY_KEY_BYTES] for key in keys.derived(_REPLY))


def normalised(channel: str, address: str) -> str:
    """An address as it is compared: a telephone number's digits with country code, a mail address in small letters."""
    if _family(channel) == "telephone":
        digits = "".join(str(int(letter)) for letter in address if letter.isdecimal())
        return digits.removeprefix("00") if not address.strip().startswith("+") else digits
    if channel == ChannelName.EMAIL:
        return (parseaddr(address)[1] or address).strip().casefold()
    return address.strip()


def _family(channel: str) -> str:
    """Calls and short messages come from the same number."""
    return "telephone" if channel in (ChannelName.SMS, ChannelName.VOICE) else channel


def _mac(key: bytes, page_id: UUID) -> bytes:
    return hmac.digest(key, page_id.bytes, "sha256")[:MAC_BYTES]


def _code(key: bytes, page_id: UUID, digits: int = CODE_DIGITS) -> str:
    number = int.from_bytes(hmac.digest(key, page_id.bytes, "sha256")[:8], "big")
    return str(number % 10**digits).zfill(digits)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
