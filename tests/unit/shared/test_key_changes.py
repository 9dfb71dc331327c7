"""Keys change in the middle of everything: at no step is anything unverifiable that somebody has just signed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from shared import key_changes, webhooks
from shared.key_changes import KEPT, KeyChangeRefused, KeyKind, change_file, names_of
from shared.keys import KEYS_PER_KIND_MAX, KeyRing, KeysUnusable, point_context, seal
from shared.security import issue_token, verify_token
from shared.webhooks import VerifyingKey
from tests.support.escalation_rig import person

NOW = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
POINT = UUID("01990000-0000-7000-8000-000000000001")

Check = Callable[[KeyRing, KeyRing], None]


def webhook(signer: KeyRing, verifier: KeyRing) -> None:
    """A webhook of one node is believed by whoever holds the published keys of another."""
    published = [VerifyingKey.from_text(key["public_key"]) for key in verifier.public_keys()["webhook_keys"]]
    signed = webhooks.headers(signer.webhook_keys, "page-1", NOW, b"{}")
    assert webhooks.verify(published, signed, b"{}", now=NOW) == "page-1"


def token(signer: KeyRing, verifier: KeyRing) -> None:
    """A token of one node is believed by another."""
    made = issue_token(signer, person("GB"), now=NOW, token_id=POINT)
    assert verify_token(verifier, made, now=NOW).sub == "gb-1"


def storage(signer: KeyRing, verifier: KeyRing) -> None:
    """What one node encrypts another reads."""
    assert verifier.decrypt(signer.encrypt("text", context=b"row"), context=b"row") == "text"


def sealing(signer: KeyRing, verifier: KeyRing) -> None:
    """What one node seals another opens."""
    context = point_context(POINT)
    assert verifier.unseal(seal(signer.sealing_keys[0].public, "text", context=context), context=context) == "text"


CHECKS: dict[KeyKind, Check] = {
    KeyKind.WEBHOOK: webhook,
    KeyKind.TOKEN: token,
    KeyKind.STORAGE: storage,
    KeyKind.SEALING: sealing,
}


def steps(kind: KeyKind) -> Iterator[tuple[KeyRing, KeyRing]]:
    """Each step of a change, as the rings before and after it."""
    before = KeyRing.generate()
    old = names_of(before, kind)[0].id
    added = key_changes.add(before, kind)
    yield before, added
    promoted = key_changes.promote(added, kind, names_of(added, kind)[1].id)
    yield added, promoted
    if kind not in KEPT:
        yield promoted, key_changes.drop(promoted, kind, old)


@pytest.mark.parametrize("kind", CHECKS)
def test_every_step_can_be_taken_one_node_at_a_time(kind: KeyKind) -> None:
    """While one node has taken a step and another has not, each believes and reads what the other makes."""
    for before, after in steps(kind):
        for signer, verifier in ((before, after), (after, before), (after, after)):
            CHECKS[kind](signer, verifier)


def test_two_at_once_are_too_much_for_other_nodes() -> None:
    """What `rotate` signs is unknown to a node that has not restarted: hence add first, promote later."""
    before = KeyRing.generate()
    after = key_changes.rotate(before, KeyKind.TOKEN)
    token(before, after)
    with pytest.raises(Exception, match="token"):
        token(after, before)


def test_webhooks_carry_both_signatures_in_the_overlap() -> None:
    """From the first step to the last a receiver that holds either key, and only that, goes on working."""
    before = KeyRing.generate()
    added = key_changes.add(before, KeyKind.WEBHOOK)
    old, new = (key.verifying_key for key in added.webhook_keys)
    promoted = key_changes.promote(added, KeyKind.WEBHOOK, names_of(added, KeyKind.WEBHOOK)[1].id)
    for ring in (added, promoted):
        signed = webhooks.headers(ring.webhook_keys, "page-1", NOW, b"{}")
        assert len(signed[webhooks.HEADER_SIGNATURE].split()) == 2
        for only in (old, new):
            assert webhooks.verify([only], signed, b"{}", now=NOW) == "page-1"


def test_the_published_keys_are_all_that_are_in_use() -> None:
    """`/.well-known/redphone-keys` shows every key of the overlap, and the names are the same ones."""
    ring = key_changes.add(key_changes.add(KeyRing.generate(), KeyKind.WEBHOOK), KeyKind.TOKEN)
    published = ring.public_keys()
    assert [key["id"] for key in published["webhook_keys"]] == [one.id for one in names_of(ring, KeyKind.WEBHOOK)]
    assert [key["public_key"] for key in published["webhook_keys"]] == [
        one.public_key for one in names_of(ring, KeyKind.WEBHOOK)
    ]
    assert [key["kid"] for key in published["keys"]] == [one.id for one in names_of(ring, KeyKind.TOKEN)]
    assert len(published["feed_keys"]) == 1


@pytest.mark.parametrize("kind", KeyKind)
def test_there_is_a_limit(kind: KeyKind) -> None:
    """So many keys of a kind; the next one is refused, whichever way it is made."""
    ring = KeyRing.generate()
    for _ in range(KEYS_PER_KIND_MAX - 1):
        ring = key_changes.add(ring, kind)
    for change in (key_changes.add, key_changes.rotate):
        with pytest.raises(KeyChangeRefused, match="already"):
            change(ring, kind)


def test_the_key_that_signs_is_not_dropped() -> None:
    """First another one has to sign."""
    ring = key_changes.add(KeyRing.generate(), KeyKind.FEED)
    with pytest.raises(KeyChangeRefused, match="promote another"):
        key_changes.drop(ring, KeyKind.FEED, names_of(ring, KeyKind.FEED)[0].id)


@pytest.mark.parametrize("kind", sorted(KEPT))
def test_what_closed_the_databases_is_kept(kind: KeyKind) -> None:
    """Keys that sealed or encrypted what is stored cannot be dropped, in whatever place they stand."""
    ring = key_changes.rotate(KeyRing.generate(), kind)
    with pytest.raises(KeyChangeRefused, match="are kept"):
        key_changes.drop(ring, kind, names_of(ring, kind)[1].id)


def test_unknown_names_are_refused() -> None:
    """A key is named by its id, of its own kind."""
    ring = KeyRing.generate()
    webhook_id = names_of(ring, KeyKind.WEBHOOK)[0].id
    for change in (key_changes.promote, key_changes.drop):
        with pytest.raises(KeyChangeRefused, match="no token key"):
            change(ring, KeyKind.TOKEN, webhook_id)


def test_only_the_kind_changes() -> None:
    """A change of one kind leaves all others as they are, push keys included."""
    before = KeyRing.generate()
    after = key_changes.rotate(before, KeyKind.WEBHOOK)
    for kind in KeyKind:
        if kind is not KeyKind.WEBHOOK:
            assert names_of(after, kind) == names_of(before, kind)
    assert after.push_keys == before.push_keys


def test_a_file_is_changed_whole_and_stays_private(tmp_path: Path) -> None:
    """The file holds the new ring, for its owner alone; a change that is refused leaves it as it was."""
    path = tmp_path / "keys.json"
    KeyRing.generate().save(path)
    before, after = change_file(path, lambda ring: key_changes.add(ring, KeyKind.WEBHOOK))
    assert (len(before.webhook_keys), len(after.webhook_keys)) == (1, 2)
    assert KeyRing.load(path).to_text() == after.to_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["keys.json"]
    with pytest.raises(KeyChangeRefused):
        change_file(path, lambda ring: key_changes.drop(ring, KeyKind.WEBHOOK, "x"))
    assert KeyRing.load(path).to_text() == after.to_text()


def test_two_changes_at_once_lose_nothing(tmp_path: Path) -> None:
    """Changes that are made at the same time come one after the other."""
    path = tmp_path / "keys.json"
    KeyRing.generate().save(path)
    kinds = (KeyKind.TOKEN, KeyKind.WEBHOOK, KeyKind.FEED)
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda kind: change_file(path, lambda ring: key_changes.add(ring, kind)), kinds * 3))
    ring = KeyRing.load(path)
    assert [len(names_of(ring, kind)) for kind in kinds] == [KEYS_PER_KIND_MAX] * 3


def test_files_that_cannot_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file is not made up, and somebody else's is not taken over."""
    path = tmp_path / "keys.json"
    with pytest.raises(KeysUnusable, match="no key file"):
        change_file(path, lambda ring: ring)
    KeyRing.generate().save(path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(KeysUnusable, match="belongs to somebody else"):
        change_file(path, lambda ring: ring)
