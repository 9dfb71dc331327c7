from __future__ import annotations

import base64
import hashlib
import hmac
import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt

from shared import security
from shared.contracts import CredentialKind, Role
from shared.errors import Forbidden
from shared.keys import KEY_FILE_BYTES_MAX, KEYS_PER_KIND_MAX, CannotOpen, KeyRing, KeysUnusable, PushKey, seal, unseal
from shared.security import (
    Claims,
    Principal,
    PrincipalKind,
    TokenVerifier,
    Unauthenticated,
    issue_token,
    verify_token,
)
from shared.webhooks import SigningKey

NOW = datetime(2021, 8, 15, 6, 0, tzinfo=UTC)
TOKEN_ID = UUID("017b4a2e-0000-7000-8000-000000000001")
RING = KeyRing.generate()

OFFICER = Principal(
    subject="ca-officer",
    client_id="ca-officer-1",
    partner="CA",
    roles=frozenset({Role.DUTY_OFFICER, Role.RELEASER}),
    kind=PrincipalKind.PERSON,
    name="Example Officer",
    contact_id=UUID("017b4a2e-0000-7000-8000-000000000002"),
    credential_version=3,
)


def token(ring: KeyRing = RING, principal: Principal = OFFICER, now: datetime = NOW) -> str:
    """A token of the officer's, unless told otherwise."""
    return issue_token(ring, principal, now=now, token_id=TOKEN_ID)


def part(value: object) -> str:
    """A value as a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def claims_of(text: str) -> dict[str, object]:
    """What a token says, whoever signed it."""
    payload = text.split(".")[1]
    decoded: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return decoded


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_token_gives_back_the_principal() -> None:
    """What was issued is what is verified, field by field."""
    assert verify_token(RING, token(), now=NOW).principal() == OFFICER


def test_service_and_administrator_tokens() -> None:
    """Services and administrators mint tokens that belong to no partner; only the administrator has a role."""
    service = verify_token(RING, token(principal=security.service("escalation")), now=NOW).principal()
    administrator = verify_token(RING, token(principal=security.administrator("local")), now=NOW).principal()
    assert (service.is_service, service.roles, service.partner) == (True, frozenset(), security.INSTALLATION)
    assert (administrator.is_service, administrator.roles) == (False, frozenset({Role.ADMINISTRATOR}))


def test_verifies_with_every_key_and_signs_with_the_first() -> None:
    """During a change of keys, tokens of the old and of the new key are both good; without the old one, its are not."""
    changed = replace(RING, token_keys=(*KeyRing.generate().token_keys, *RING.token_keys))
    after = replace(RING, token_keys=changed.token_keys[:1])
    assert verify_token(changed, token(), now=NOW).sub == OFFICER.subject
    assert verify_token(after, token(changed), now=NOW).sub == OFFICER.subject
    with pytest.raises(Unauthenticated):
        verify_token(after, token(), now=NOW)


@pytest.mark.parametrize(
    ("seconds", "good"), [(-31, False), (-29, True), (0, True), (899, True), (929, True), (930, False), (10**9, False)]
)
def test_token_lives_fifteen_minutes_give_or_take_the_skew(seconds: int, good: bool) -> None:
    """A token is good from 30 s before it was issued until 30 s after it expired, and never otherwise."""
    present = NOW + timedelta(seconds=seconds)
    if good:
        assert verify_token(RING, token(), now=present).jti == str(TOKEN_ID)
    else:
        with pytest.raises(Unauthenticated):
            verify_token(RING, token(), now=present)


def test_expired_token_says_so() -> None:
    """An expired token has a code of its own, so that programs know that a new one helps."""
    with pytest.raises(Unauthenticated) as refusal:
        verify_token(RING, token(), now=NOW + timedelta(hours=1))
    assert refusal.value.code == "token_expired"


def _without_algorithm(text: str) -> str:
    header, payload, _ = text.split(".")
    kid = json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]
    return f"{part({'alg': 'none', 'kid': kid, 'typ': 'at+jwt'})}.{payload}."


def _hmac_with_the_public_key(text: str) -> str:
    header, payload, _ = text.split(".")
    kid = json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]
    signed = f"{part({'alg': 'HS256', 'kid': kid, 'typ': 'at+jwt'})}.{payload}"
    mac = hmac.new(RING.token_keys[0].verifying_key.raw, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _own_key_in_the_header(text: str) -> str:
    forger = SigningKey.generate()
    web_key = KeyRing.public_keys(replace(RING, token_keys=(forger,)))["keys"][0]
    signed = f"{part({'alg': 'Ed25519', 'jwk': web_key, 'typ': 'at+jwt'})}.{text.split('.')[1]}"
    return f"{signed}.{base64.urlsafe_b64encode(forger.signature(signed.encode())).rstrip(b'=').decode()}"


def _stranger_with_our_key_id(text: str) -> str:
    header, payload, _ = text.split(".")
    signature = SigningKey.generate().signature(f"{header}.{payload}".encode())
    return f"{header}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _promoted(text: str) -> str:
    header, _, signature = text.split(".")
    return f"{header}.{part(claims_of(text) | {'roles': ['administrator']})}.{signature}"


FORGERIES: dict[str, Callable[[str], str]] = {
    "no algorithm": _without_algorithm,
    "hmac with the public key": _hmac_with_the_public_key,
    "brings its own key": _own_key_in_the_header,
    "another key under our id": _stranger_with_our_key_id,
    "claims changed": _promoted,
    "signature cut": lambda text: text[:-10],
    "payload cut": lambda text: ".".join([text.split(".")[0], text.split(".")[1][:20], text.split(".")[2]]),
    "no signature": lambda text: text.rpartition(".")[0],
    "signature empty": lambda text: text.rpartition(".")[0] + ".",
    "two tokens": lambda text: f"{text}.{text}",
    "empty": lambda _: "",
    "not ascii": lambda text: text + "é",
    "too long": lambda text: text + "A" * security.TOKEN_LENGTH_MAX,
    "deeply nested header": lambda text: part(0) + base64.urlsafe_b64encode(b"[" * 300).decode() + text,
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_refuses_forged_tokens(forgery: Callable[[str], str]) -> None:
    """Whatever is changed in a token, and whichever algorithm it names, it is refused as unauthenticated."""
    with pytest.raises(Unauthenticated):
        verify_token(RING, forgery(token()), now=NOW)


def _signed_by_us(claims: object, header: dict[str, object] | None = None) -> str:
    key = RING.token_keys[0]
    kid = RING.public_keys()["keys"][0]["kid"]
    signed = f"{part({'alg': 'Ed25519', 'kid': kid, 'typ': 'at+jwt'} | (header or {}))}.{part(claims)}"
    return f"{signed}.{base64.urlsafe_b64encode(key.signature(signed.encode())).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "elsewhere"},
        {"roles": "administrator"},
        {"kind": "robot"},
        {"partner": "canada"},
        {"exp": "tomorrow"},
        {"exp": None},
        {"exp": 2**40},
        {"credential_version": "3"},
        {"contact_id": "nobody"},
    ],
    ids=str,
)
def test_refuses_claims_that_we_never_write(change: dict[str, object]) -> None:
    """Also under our own signature, claims of the wrong shape or with an impossible lifetime make no principal."""
    claims = claims_of(token())
    assert verify_token(RING, _signed_by_us(claims), now=NOW).principal() == OFFICER
    with pytest.raises(Unauthenticated):
        verify_token(RING, _signed_by_us(claims | change), now=NOW)


def test_token_that_comes_again_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature is checked once for a text; the times are looked at every time, and a change of it is refused."""
    checked: list[str] = []
    real = jwt.decode

    def counting(text: str, *arguments: Any, **options: Any) -> Any:
        checked.append(text)
        return real(text, *arguments, **options)

    monkeypatch.setattr("shared.security.jwt.decode", counting)
    verifier, good = TokenVerifier(RING), token()
    assert [verifier.verify(good, now=NOW).principal() for _ in "abc"] == [OFFICER] * 3
    assert checked == [good]
    with pytest.raises(Unauthenticated) as late:
        verifier.verify(good, now=NOW + timedelta(hours=1))
    assert late.value.code == "token_expired"
    for _ in "ab":
        with pytest.raises(Unauthenticated):
            verifier.verify(_promoted(good), now=NOW)
    assert len(checked) == 3, "what is refused is not remembered"
    with pytest.raises(Unauthenticated):
        TokenVerifier(KeyRing.generate()).verify(good, now=NOW)


def test_verifier_remembers_a_limited_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes many tokens fills no memory; those that were used last are kept."""
    monkeypatch.setattr(security, "TOKENS_REMEMBERED_MAX", 2)
    verifier = TokenVerifier(RING)
    texts = [token(now=NOW + timedelta(seconds=number)) for number in range(3)]
    for text in (texts[0], texts[1], texts[0], texts[2]):
        verifier.verify(text, now=NOW)
    assert verifier.remembered == 2
    monkeypatch.setattr("shared.security.jwt.decode", None)
    assert verifier.verify(texts[0], now=NOW).sub == OFFICER.subject
    with pytest.raises(Unauthenticated):
        verifier.verify(texts[1], now=NOW)


def test_role_of_a_newer_version_gives_nothing() -> None:
    """A role that this version does not know is left out; the others count."""
    claims = claims_of(token()) | {"roles": ["releaser", "minister"]}
    assert verify_token(RING, _signed_by_us(claims), now=NOW).principal().roles == {Role.RELEASER}


def test_refuses_other_kinds_of_signed_text() -> None:
    """A text that our token key signed for another purpose is no access token."""
    with pytest.raises(Unauthenticated):
        verify_token(RING, _signed_by_us(claims_of(token()), {"typ": "JWT"}), now=NOW)


@given(st.text(max_size=200))
def test_refuses_any_text(text: str) -> None:
    """No text whatever makes verification fail in another way than by refusing."""
    with pytest.raises(Unauthenticated):
        verify_token(RING, text, now=NOW)


@pytest.mark.parametrize("seconds", [0, -1, security.TOKEN_SECONDS_MAX + 1])
def test_lifetime_has_limits(seconds: int) -> None:
    """A token that never expires, or is dead on arrival, cannot be made."""
    with pytest.raises(ValueError, match="lives"):
        issue_token(RING, OFFICER, now=NOW, token_id=TOKEN_ID, lifetime_seconds=seconds)


def test_claims_are_strict() -> None:
    """A number in place of a text is refused instead of converted."""
    with pytest.raises(ValueError, match="client_id"):
        Claims.model_validate(claims_of(token()) | {"client_id": 5})


# --- principals -------------------------------------------------------------------------------------------------------


def test_require_asks_for_one_of_the_roles() -> None:
    """One of the named roles is enough; without any, the refusal names what is needed."""
    OFFICER.require(Role.AUDITOR, Role.RELEASER)
    with pytest.raises(Forbidden, match="auditor or secretariat") as refusal:
        OFFICER.require(Role.AUDITOR, Role.SECRETARIAT)
    assert refusal.value.code == "role_missing"


def test_actor_names_the_caller() -> None:
    """The actor of a person is a person with their contact, that of a service a system."""
    actor = OFFICER.actor()
    assert (actor.subject, actor.partner, actor.kind) == ("ca-officer", "CA", CredentialKind.PERSON)
    assert actor.contact_id == OFFICER.contact_id
    assert security.service("roster").actor().kind is CredentialKind.SYSTEM


def test_secrets_are_long_and_hashed() -> None:
    """Secrets carry the prefix and 256 bits, differ, and are kept as SHA-256."""
    first, second = security.new_secret(), security.new_secret()
    assert first != second
    assert first.startswith("rps_")
    assert len(base64.urlsafe_b64decode(first.removeprefix("rps_") + "=")) == 32
    assert security.hash_secret(first) == hashlib.sha256(first.encode()).hexdigest()


# --- keys -------------------------------------------------------------------------------------------------------------


def test_key_file_comes_back_and_is_closed_to_others(tmp_path: Path) -> None:
    """A saved ring is read back with the same keys, from a file that only its owner may read."""
    path = tmp_path / "keys.json"
    RING.save(path)
    assert KeyRing.load(path).to_text() == RING.to_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_open_key_file_is_refused(tmp_path: Path, mode: int) -> None:
    """A key file that anybody else may read or write is refused with the command that closes it."""
    path = tmp_path / "keys.json"
    RING.save(path)
    path.chmod(mode)
    with pytest.raises(KeysUnusable, match="chmod 600"):
        KeyRing.load(path)


def test_missing_key_file_is_refused(tmp_path: Path) -> None:
    """Loading never makes keys up."""
    with pytest.raises(KeysUnusable, match="no key file"):
        KeyRing.load(tmp_path / "keys.json")


def test_first_start_makes_keys_once(tmp_path: Path) -> None:
    """The first call makes the file, the second reads it; whoever comes second gets the keys of whoever was first."""
    path = tmp_path / "data" / "keys.json"
    first = KeyRing.load_or_generate(path)
    assert KeyRing.load_or_generate(path).to_text() == first.to_text()
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_an_old_key_file_gets_the_keys_that_it_lacks(tmp_path: Path) -> None:
    """A file of our own from before push is completed once and keeps its keys; later starts read the same."""
    path = tmp_path / "keys.json"
    replace(RING, push_keys=()).save(path)
    assert "push_keys" not in json.loads(path.read_text())
    completed = KeyRing.load_or_generate(path)
    assert len(completed.push_keys) == 1
    assert KeyRing.load_or_generate(path).to_text() == completed.to_text()
    assert replace(completed, push_keys=()).to_text() == replace(RING, push_keys=()).to_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_starts_at_once_complete_a_file_once(tmp_path: Path) -> None:
    """Of several processes that find the same old file, all end up with the keys of one."""
    path = tmp_path / "keys.json"
    replace(RING, push_keys=()).save(path)
    with ThreadPoolExecutor(8) as threads:
        rings = list(threads.map(lambda _: KeyRing.load_or_generate(path).to_text(), range(8)))
    assert set(rings) == {KeyRing.load(path).to_text()}


def test_a_named_file_without_push_keys_stays_as_it_is(tmp_path: Path) -> None:
    """Loading alone writes nothing: push is off then."""
    path = tmp_path / "keys.json"
    replace(RING, push_keys=()).save(path)
    before = path.read_bytes()
    assert KeyRing.load(path).push_keys == ()
    assert path.read_bytes() == before


def test_push_keys_come_back_and_stay_secret() -> None:
    """A push key survives its text; the public half is a point that browsers take; the ring's `repr` shows neither."""
    (key,) = RING.push_keys
    assert PushKey.parse(key.to_text()).public_text == key.public_text
    assert len(base64.urlsafe_b64decode(key.public_text + "=")) == 65
    assert key.to_text() not in repr(RING)
    assert RING.without_opening().push_keys == ()


def _damaged(change: Callable[[dict[str, object]], object]) -> str:
    document = json.loads(RING.to_text())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "not json",
        "{}",
        "x" * (KEY_FILE_BYTES_MAX + 1),
        _damaged(lambda d: d.update(format=2)),
        _damaged(lambda d: d.update(token_keys=[])),
        _damaged(lambda d: d.update(token_keys=["AAAA"])),
        _damaged(lambda d: d.update(feed_keys=["*" * 43])),
        _damaged(lambda d: d.update(storage_keys=["AAAA"])),
        _damaged(lambda d: d.update(push_keys=["AAAA"])),
        _damaged(lambda d: d.update(push_keys=["A" * 43])),
        _damaged(lambda d: d.update(push_keys=d["push_keys"] * (KEYS_PER_KIND_MAX + 1))),  # type: ignore[operator]
        _damaged(lambda d: d.update(webhook_keys=d["webhook_keys"] * (KEYS_PER_KIND_MAX + 1))),  # type: ignore[operator]
        _damaged(lambda d: d["sealing_keys"][0].update(public="A" * 43)),  # type: ignore[index]
    ],
)
def test_damaged_keys_are_refused_without_repeating_them(text: str) -> None:
    """Damaged key texts are refused in one sentence that repeats no part of them."""
    with pytest.raises(KeysUnusable) as refusal:
        KeyRing.parse(text)
    secrets = [json.loads(RING.to_text())[kind][0] for kind in ("token_keys", "webhook_keys", "storage_keys")]
    assert not any(secret in refusal.value.detail for secret in secrets)
    assert refusal.value.__cause__ is None


def test_nothing_secret_is_printed() -> None:
    """Neither `repr` nor the public keys show any private half."""
    shown = repr(RING) + json.dumps(RING.public_keys())
    document = json.loads(RING.to_text())
    for kind in ("token_keys", "webhook_keys", "feed_keys", "storage_keys"):
        raw = base64.urlsafe_b64decode(document[kind][0] + "=")
        assert document[kind][0] not in shown
        assert repr(raw) not in shown


def test_public_keys_are_a_web_key_set() -> None:
    """Tokens' keys come as a JSON Web Key Set under the ids that tokens name; webhooks' with their prefix."""
    published = RING.public_keys()
    kid = json.loads(base64.urlsafe_b64decode(token().split(".")[0] + "=="))["kid"]
    assert [key["kid"] for key in published["keys"]] == [kid]
    assert all("d" not in key for key in published["keys"] + published["feed_keys"])
    assert published["webhook_keys"][0]["public_key"] == RING.webhook_keys[0].verifying_key.to_text()


# --- sealed and encrypted texts ---------------------------------------------------------------------------------------


@given(st.text(max_size=300), st.binary(max_size=40))
def test_sealed_text_opens_again(plaintext: str, context: bytes) -> None:
    """What was sealed opens with the private half and the same context, and never looks the same twice."""
    private = X25519PrivateKey.generate()
    sealed = seal(private.public_key(), plaintext, context=context)
    assert unseal(private, sealed, context=context) == plaintext
    assert seal(private.public_key(), plaintext, context=context) != sealed


def _flipped(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: _flipped(text, 5),
        lambda text: _flipped(text, 50),
        lambda text: _flipped(text, len(text) - 3),
        lambda text: text[:-4],
        lambda text: text.replace("sb1.", "sb2."),
        lambda text: text + "*",
        lambda _: "",
        lambda _: "sb1.",
        lambda _: "sb1." + "A" * 20_000,
        lambda _: "sb1." + "A" * 80,
    ],
)
def test_changed_sealed_text_stays_shut(change: Callable[[str], str]) -> None:
    """A sealed text that was changed, cut or made up does not open."""
    with pytest.raises(CannotOpen):
        RING.unseal(change(RING.seal("+1 202 555 0100", context=b"point")), context=b"point")


def test_sealed_text_belongs_to_its_context_and_key() -> None:
    """Moved to another context, or given to another installation, it stays shut; roster's ring cannot open at all."""
    sealed = RING.seal("+1 202 555 0100", context=b"point 1")
    for ring, context in ((RING, b"point 2"), (KeyRing.generate(), b"point 1"), (RING.without_opening(), b"point 1")):
        with pytest.raises(CannotOpen):
            ring.unseal(sealed, context=context)
    sealing_only = KeyRing.parse(RING.without_opening().to_text())
    assert RING.unseal(sealing_only.seal("x", context=b""), context=b"") == "x"


def test_old_sealing_key_still_opens() -> None:
    """After a change of keys, what the old key sealed opens until that key is dropped."""
    sealed = RING.seal("x", context=b"")
    changed = replace(RING, sealing_keys=(KeyRing.generate().sealing_keys[0], *RING.sealing_keys))
    assert changed.unseal(sealed, context=b"") == "x"


def test_stored_text_is_encrypted_under_a_named_key() -> None:
    """Stored texts decrypt with any of our keys in their own context, and are refused otherwise."""
    stored = RING.encrypt("whsk secret", context=b"row 1")
    changed = replace(RING, storage_keys=(KeyRing.generate().storage_keys[0], *RING.storage_keys))
    assert "secret" not in stored
    assert changed.decrypt(stored, context=b"row 1") == "whsk secret"
    for ring, text, context in (
        (RING, stored, b"row 2"),
        (KeyRing.generate(), stored, b"row 1"),
        (RING, _flipped(stored, len(stored) - 3), b"row 1"),
        (RING, stored[:30], b"row 1"),
        (RING, "", b"row 1"),
    ):
        with pytest.raises(CannotOpen):
            ring.decrypt(text, context=context)
