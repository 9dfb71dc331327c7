"""Tokens, codes and reply keys: made from a page's id, alike however often, and of no use to whoever alters them."""

from __future__ import annotations

import string
from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.answering import links
from shared.keys import KeyRing, StorageKey

KEYS = KeyRing.generate()
OTHER = KeyRing.generate()
ALPHABET = string.ascii_letters + string.digits + "-_"


def changed(old: KeyRing, new: KeyRing) -> KeyRing:
    """A ring in the middle of a change of keys: the new one makes, the old one still counts."""
    return replace(old, storage_keys=(*new.storage_keys, *old.storage_keys))


@given(st.uuids())
def test_a_token_leads_back_to_its_page(page_id: UUID) -> None:
    """A token is short, safe in an address, the same each time, and leads to its page and no other."""
    token = links.token_of(KEYS, page_id)
    assert len(token) == links.TOKEN_CHARACTERS
    assert set(token) <= set(ALPHABET)
    assert token == links.token_of(KEYS, page_id)
    assert links.page_of(KEYS, token) == page_id


@given(st.uuids(), st.integers(0, links.TOKEN_CHARACTERS - 1), st.sampled_from(ALPHABET))
def test_an_altered_token_leads_nowhere(page_id: UUID, place: int, letter: str) -> None:
    """Whoever changes one letter of a token has none, whichever letter it is."""
    token = links.token_of(KEYS, page_id)
    altered = token[:place] + letter + token[place + 1 :]
    assert links.page_of(KEYS, altered) == (page_id if altered == token else None)


@given(st.text(max_size=60))
def test_no_other_text_is_a_token(text: str) -> None:
    """Whatever is sent in place of a token is looked at without an error, and is none."""
    assert links.page_of(KEYS, text) is None


@given(st.uuids())
def test_another_installation_makes_other_tokens_and_codes(page_id: UUID) -> None:
    """A token of other keys is none of ours."""
    assert links.page_of(KEYS, links.token_of(OTHER, page_id)) is None


@given(st.uuids())
def test_links_live_through_a_change_of_keys(page_id: UUID) -> None:
    """What the old key made still counts beside the new one, which makes what is sent from then on."""
    both = changed(KEYS, OTHER)
    assert links.page_of(both, links.token_of(KEYS, page_id)) == page_id
    assert links.token_of(both, page_id) == links.token_of(OTHER, page_id)
    assert links.is_code(both, page_id, links.code_of(KEYS, page_id))
    assert links.is_code(both, page_id, links.code_of(OTHER, page_id))


@given(st.uuids())
def test_a_code_is_four_digits_and_its_own(page_id: UUID) -> None:
    """A code has four digits, is the same each time, and no other four digits are taken for it."""
    code = links.code_of(KEYS, page_id)
    assert len(code) == links.CODE_DIGITS
    assert code.isdigit()
    assert links.is_code(KEYS, page_id, code)
    assert sum(links.is_code(KEYS, page_id, f"{number:04}") for number in range(0, 10_000, 7)) <= 1
    assert not links.is_code(KEYS, page_id, code + "0")
    assert not links.is_code(KEYS, page_id, "")


def test_codes_are_spread_over_all_digits() -> None:
    """Codes of many pages do not crowd: nobody guesses one better than by chance."""
    codes = [links.code_of(KEYS, UUID(int=number)) for number in range(4000)]
    assert len(set(codes)) > 3000
    assert {code[0] for code in codes} == set("0123456789")


def test_a_link_stands_under_the_public_address() -> None:
    """A link is the installation's address and the token, whether or not the address ends with a slash."""
    page_id = UUID(int=1)
    expected = f"https://redphone.example/a/{links.token_of(KEYS, page_id)}"
    assert links.link_of("https://redphone.example", KEYS, page_id) == expected
    assert links.link_of("https://redphone.example/", KEYS, page_id) == expected


def test_the_same_number_written_otherwise_has_the_same_reply_key() -> None:
    """A reply finds its pages however the provider writes the number, and whether it was called or written to."""
    key = links.reply_key(KEYS, "sms", "+44 7700 900123")
    assert key == links.reply_key(KEYS, "sms", "00447700900123")
    assert key == links.reply_key(KEYS, "voice", "+44-7700-900-123")
    assert key == links.reply_key(KEYS, "sms", "447700900123")
    assert key != links.reply_key(KEYS, "sms", "+447700900124")
    assert len(key) == links.REPLY_KEY_BYTES


def test_a_mail_address_is_compared_without_case_and_name() -> None:
    """A mail from "A Person <A@B.EXAMPLE>" finds what was sent to a@b.example."""
    key = links.reply_key(KEYS, "email", "duty@ministry.example")
    assert key == links.reply_key(KEYS, "email", "Duty Officer <Duty@Ministry.EXAMPLE>")
    assert key != links.reply_key(KEYS, "email", "duty@other.example")
    assert key != links.reply_key(KEYS, "chat", "duty@ministry.example")


def test_a_reply_is_looked_for_by_every_key() -> None:
    """Pages that were sent before a change of keys are found by the replies that come after it."""
    both = changed(KEYS, OTHER)
    assert links.reply_key(KEYS, "sms", "+447700900123") in links.reply_keys(both, "sms", "+447700900123")


def test_each_purpose_has_a_key_of_its_own() -> None:
    """Keys for two purposes, and of two storage keys, differ, and none is a storage key itself."""
    ring = replace(KEYS, storage_keys=(StorageKey(b"a" * 32), StorageKey(b"b" * 32)))
    made = {*ring.derived("one"), *ring.derived("two")}
    assert len(made) == 4
    assert not made & {key.raw for key in ring.storage_keys}
    assert ring.derived("one") == ring.derived("one")
