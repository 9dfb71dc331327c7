"""The feed: the second road. Entitlement, signatures, resuming, and that both roads together deliver once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from shared import feed, inbox
from shared.contracts import AlertEnded, CredentialsPublished, PartnerChanged, PlannedOffice, Role, Standing
from shared.db import Database
from shared.errors import ALERT_OPENING, Rejected, Unavailable
from shared.events import Message, headers_of
from shared.feed import (
    LIMIT_MAX,
    PULL_CONCURRENCY,
    PULL_LIMIT,
    EntryRefused,
    FeedEntry,
    FeedPage,
    Puller,
    router,
    verify_entry,
)
from shared.keys import KeyRing
from shared.outbox import Sequencer
from shared.security import INSTALLATION, Principal, PrincipalKind, administrator, credentials, issue_token, service
from shared.subscriptions import DeadLetter, Delivery, Failures, Subscription, attend
from shared.together import Gathering, Together
from shared.web import build_app
from tests.integration.shared.conftest import Desk


@dataclass
class Source:
    """Alerting as far as its feed goes."""

    desk: Desk
    keyring: KeyRing
    service: str = "alerting"
    app: Any = None
    tamper: Callable[[dict[str, Any]], None] | None = None
    down: bool = False

    @property
    def clock(self) -> Any:
        return self.desk.clock

    @property
    def ids(self) -> Any:
        return self.desk.ids

    @property
    def intake(self) -> Database:
        return self.desk.database

    def token(self, principal: Principal) -> str:
        return issue_token(self.keyring, principal, now=self.clock.now(), token_id=self.ids.new())

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://feed.test")

    async def get(self, principal: Principal, **query: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token(principal)}"}
        async with self.client() as client:
            return await client.get("/v1/feed/alerting", params=query, headers=headers)

    async def page(self, principal: Principal, **query: Any) -> FeedPage:
        answer = await self.get(principal, **query)
        assert answer.status_code == 200, answer.text
        return FeedPage.model_validate_json(answer.content)

    async def publish(self, *events: Any) -> list[Message[Any]]:
        messages = await self.desk.append(*events)
        await Sequencer(self.desk.database, ("outbox",)).run_once()
        return messages

    async def member(self, partner: str) -> Principal:
        """A duty officer of the partner, whose credential stands."""
        name = f"{partner.lower()}-officer"
        async with self.desk.database.transaction() as tx:
            await tx.execute(
                credentials.insert().values(
                    client_id=name,
                    kind="person",
                    subject=name,
                    name=name,
                    partner=partner,
                    roles=["duty_officer"],
                    secret_sha256="0" * 64,
                    version=1,
                )
            )
        return Principal(name, name, partner, frozenset({Role.DUTY_OFFICER}), PrincipalKind.PERSON, name, None, 1)


class Wire(httpx.AsyncBaseTransport):
    """The way to the source: it may be cut, and somebody may sit on it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._inner = httpx.ASGITransport(app=source.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._source.down:
            raise httpx.ConnectError("cut")
        answer = await self._inner.handle_async_request(request)
        if self._source.tamper is None:
            return answer
        page = orjson.loads(await answer.aread())
        self._source.tamper(page)
        return httpx.Response(answer.status_code, stream=httpx.ByteStream(orjson.dumps(page)))


@dataclass
class Reader:
    """Escalation as far as it reads: a handler that does what it is told, and where dead letters go."""

    source: Source
    database: Database
    healthy: bool = True
    fails: dict[str, Exception] = field(default_factory=dict)
    handled: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    buried: list[DeadLetter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.subscription = Subscription("escalation", AlertEnded, self.handle, self.bury)
        self.puller = self.restarted()

    def restarted(self) -> Puller:
        """What a new process begins with."""
        return Puller(
            "alerting",
            service="escalation",
            subscriptions=[self.subscription],
            database=self.database,
            keyring=self.source.keyring,
            clock=self.source.clock,
            ids=self.source.ids,
            bus_healthy=lambda: self.healthy,
            base_url=None,
            transport=Wire(self.source),
        )

    async def handle(self, message: Message[AlertEnded]) -> None:
        self.tried.append(str(message.id))
        async with self.database.transaction() as tx:
            if not await inbox.accept(
                tx, consumer=self.subscription.durable, message_id=message.id, now=self.source.clock.now()
            ):
                return
            if (error := self.fails.get(str(message.id))) is not None:
                raise error
        self.handled.append(str(message.id))

    async def bury(self, letter: DeadLetter) -> None:
        self.buried.append(letter)


@pytest.fixture
async def source(desk: Desk) -> Source:
    """A source with keys of its own."""
    made = Source(desk, KeyRing.generate())
    made.app = build_app("feed", [router(made)], service="alerting", clock=desk.clock, ids=desk.ids)
    return made


@pytest.fixture
async def reader(source: Source) -> AsyncIterator[Reader]:
    """A reader with an inbox in the same test database."""
    made = Reader(source, source.desk.database)
    yield made
    await made.puller.close()


def keys(source: Source) -> list[Any]:
    """The public halves."""
    return [key.verifying_key for key in source.keyring.feed_keys]


async def test_partner_reads_only_what_concerns_it(source: Source) -> None:
    """Raiser and recipients see an event, another partner sees nothing of it, and services see everything."""
    messages = await source.publish(source.desk.ended("CA", ["NL"]), source.desk.ended("FR", ["DE"]))
    seen = {code: [e.id for e in (await source.page(await source.member(code))).entries] for code in ("CA", "NL", "US")}
    everything = await source.page(service("escalation"))
    assert seen == {"CA": [messages[0].id], "NL": [messages[0].id], "US": []}
    assert {entry.id for entry in everything.entries} == {message.id for message in messages}


async def test_credentials_are_for_services_only(source: Source) -> None:
    """An event without readers is on no partner's feed, not even its own or the secretariat's."""
    await source.publish(CredentialsPublished(partner="CA", version=1, credentials=()))
    for code in ("CA", "XR"):
        assert (await source.page(await source.member(code))).entries == []
    assert len((await source.page(service("escalation"))).entries) == 1


async def test_each_reader_sees_its_own_form(source: Source) -> None:
    """What belongs to one partner is withheld from the others, and each form is signed for its reader alone."""
    office = PlannedOffice(id=source.ids.new(), name="Duty room", switchboard="+1 613 555 0100")
    changed = PartnerChanged(
        partner="CA",
        version=1,
        name="Canada",
        standing=Standing.MEMBER,
        time_zone="America/Toronto",
        office=office,
    )
    await source.publish(changed)
    own = (await source.page(await source.member("CA"))).entries[0]
    foreign = (await source.page(await source.member("NL"))).entries[0]
    assert "+1 613 555 0100" in own.data
    assert "+1 613 555 0100" not in foreign.data
    verify_entry(foreign, source="alerting", audience="NL", keys=keys(source))
    for audience in ("CA", INSTALLATION):
        with pytest.raises(EntryRefused):
            verify_entry(foreign, source="alerting", audience=audience, keys=keys(source))


async def test_administrator_and_stranger_read_nothing(source: Source) -> None:
    """Whoever holds the key file may set an installation up and read no alert; without a token there is a 401."""
    assert (await source.get(administrator("root"))).status_code == 403
    async with source.client() as client:
        assert (await client.get("/v1/feed/alerting")).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"data": '{"alert_id": "00000000-0000-0000-0000-000000000000"}'},
        {"type": "redphone.alerting.alert_released.v1"},
        {"time": "2021-08-15T06:00:01Z"},
        {"cursor": "elsewhere"},
        {"causation_id": "00000000-0000-0000-0000-000000000001"},
        {"correlation_id": "00000000-0000-0000-0000-000000000001"},
        {"id": "00000000-0000-0000-0000-000000000001"},
        {"signature": "AAAA"},
        {"signature": "not base64!"},
        {"key_id": "0000000000000000"},
    ],
    ids=lambda change: "-".join(change) + str(len(str(change))),
)
async def test_every_part_of_an_entry_is_signed(source: Source, change: dict[str, Any]) -> None:
    """Changing any single field makes the entry one that is refused."""
    await source.publish(source.desk.ended())
    entry = (await source.page(service("escalation"))).entries[0]
    verify_entry(entry, source="alerting", audience=INSTALLATION, keys=keys(source))
    forged = FeedEntry.model_validate({**entry.model_dump(), **change})
    with pytest.raises(EntryRefused):
        verify_entry(forged, source="alerting", audience=INSTALLATION, keys=keys(source))


async def test_entry_of_another_source_is_refused(source: Source) -> None:
    """An entry holds for the feed that it was on: one service cannot speak for another."""
    await source.publish(source.desk.ended())
    entry = (await source.page(service("escalation"))).entries[0]
    with pytest.raises(EntryRefused):
        verify_entry(entry, source="roster", audience=INSTALLATION, keys=keys(source))


async def test_pages_resume_without_gap_or_double(source: Source) -> None:
    """Page by page, a reader gets every entry once, and later ones from where it stopped."""
    officer = await source.member("NL")
    messages = await source.publish(*(source.desk.ended() for _ in range(7)))
    cursor, seen, more = None, [], True
    while more:
        page = await source.page(officer, limit=3, **({} if cursor is None else {"after": cursor}))
        seen += [entry.id for entry in page.entries]
        cursor, more = page.next_cursor, page.has_more
    messages += await source.publish(source.desk.ended())
    seen += [entry.id for entry in (await source.page(officer, after=cursor)).entries]
    assert len(seen) == len(messages)
    assert set(seen) == {message.id for message in messages}


async def test_cursor_tells_nothing_and_fits_one_reader(source: Source) -> None:
    """A cursor of somebody else, or a made-up one, is refused; it does not show how much others have said."""
    await source.publish(source.desk.ended())
    page = await source.page(await source.member("NL"))
    other = await source.member("FR")
    for cursor in (page.next_cursor, "0.1", "ar1.0000000000000000.AAAA", "x" * 200):
        answer = await source.get(other, after=cursor)
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": LIMIT_MAX + 1}, {"after": "x" * 201}])
async def test_limits_are_refused_with_a_problem(source: Source, query: dict[str, Any]) -> None:
    """A limit out of range and an endless cursor are problems, not work."""
    assert (await source.get(service("escalation"), **query)).status_code == 422


async def test_puller_handles_and_resumes_after_a_restart(source: Source, reader: Reader) -> None:
    """What is on the feed is handled once; a new process goes on where the old one stopped."""
    first = await source.publish(source.desk.ended(), source.desk.ended())
    assert await reader.puller.pull_now() == 2
    second = await source.publish(source.desk.ended())
    again = reader.restarted()
    assert await again.pull_now() == 1
    await again.close()
    assert sorted(reader.tried) == sorted(str(message.id) for message in first + second)


async def test_puller_reads_many_pages_at_once(source: Source, reader: Reader) -> None:
    """Everything that has gathered while the source was away is read in one go."""
    await source.publish(*(source.desk.ended() for _ in range(PULL_LIMIT + 5)))
    assert await reader.puller.pull_now() == PULL_LIMIT + 5


async def test_puller_hands_over_together_what_belongs_together(source: Source, reader: Reader) -> None:
    """A page for a handler of many is one batch, whatever the limit on handlers; a poisoned one is taken apart."""
    sizes: list[int] = []

    async def handle_many(_: Any, messages: Sequence[Message[AlertEnded]]) -> None:
        sizes.append(len(messages))
        for message in messages:
            await reader.handle(message)

    gathering = Gathering(None, Together(handle_many))
    reader.subscription = Subscription("escalation", AlertEnded, gathering.handle, reader.bury, together=True)
    reader.puller = reader.restarted()
    messages = await source.publish(*(source.desk.ended() for _ in range(20)))
    assert await reader.puller.pull_now() == 20
    assert max(sizes) > PULL_CONCURRENCY
    assert len(sizes) <= 2
    poison, *others = [str(message.id) for message in await source.publish(*(source.desk.ended() for _ in range(9)))]
    reader.fails[poison] = Rejected("never", code="poison")
    await reader.puller.pull_now()
    assert set(reader.handled) == {str(message.id) for message in messages} | set(others)
    assert [str(letter.message_id) for letter in reader.buried] == [poison]


async def test_both_roads_deliver_once(source: Source, reader: Reader) -> None:
    """Whichever copy comes second is dropped, also when both come at the same time."""
    messages = await source.publish(*(source.desk.ended() for _ in range(6)))
    failures = Failures()

    async def by_bus(message: Message[Any]) -> None:
        delivery = Delivery(message.body.subject, headers_of(message), message.body.model_dump_json().encode(), 1)
        await attend(reader.subscription, delivery, failures)

    await by_bus(messages[0])
    await asyncio.gather(reader.puller.pull_now(), *(by_bus(message) for message in messages[1:]))
    assert sorted(reader.handled) == sorted(str(message.id) for message in messages)
    assert reader.tried.count(str(messages[0].id)) == 1, "what was accepted before is not even tried"


@pytest.mark.logs_error("message.dead_lettered")
async def test_poison_blocks_nothing(source: Source, reader: Reader) -> None:
    """An entry that can never be handled, and one that cannot be read, are buried; the others are handled."""
    good, rejected, unreadable, last = await source.publish(*(source.desk.ended() for _ in range(4)))
    reader.fails[str(rejected.id)] = Rejected("no")
    async with source.desk.database.transaction() as tx:
        await tx.execute(text("UPDATE outbox SET body = '{}' WHERE id = :id"), {"id": unreadable.id})
    assert await reader.puller.pull_now() == 2
    assert sorted(reader.handled) == sorted([str(good.id), str(last.id)])
    assert sorted(letter.reason for letter in reader.buried) == ["malformed", "rejected"]
    assert await reader.puller.pull_now() == 0
    assert len(reader.buried) == 2


@pytest.mark.logs_error("message.dead_lettered")
async def test_bug_is_tried_five_times_and_then_buried(source: Source, reader: Reader) -> None:
    """A handler with a bug gets five tries by the clock, while everything around it is handled at once."""
    reader.healthy = False
    good, bad, last = await source.publish(*(source.desk.ended() for _ in range(3)))
    reader.fails[str(bad.id)] = ZeroDivisionError()
    assert await reader.puller.run_once() == 2
    assert sorted(reader.handled) == sorted([str(good.id), str(last.id)])
    seconds = 0
    while not reader.buried:
        source.clock.advance(1)
        seconds += 1
        await reader.puller.run_once()
    assert reader.tried.count(str(bad.id)) == 5
    assert seconds < 20, "with the ten seconds to the alarm, people are told within thirty"


async def test_unavailable_stops_the_page_and_is_tried_again(source: Source, reader: Reader) -> None:
    """While something that the handler needs is away, nothing is passed over; afterwards all is handled."""
    messages = await source.publish(*(source.desk.ended() for _ in range(20)))
    reader.fails = {str(message.id): Unavailable("away") for message in messages}
    assert await reader.puller.pull_now() == 0
    assert len(reader.tried) < 20, "the rest of the page need not be tried to know"
    reader.fails = {}
    assert await reader.puller.pull_now() == 20
    assert reader.buried == []


async def test_what_one_alert_waits_for_keeps_no_other_waiting(source: Source, reader: Reader) -> None:
    """One whose first pages are not stored yet is asked for again; everything else on the page is handled."""
    messages = await source.publish(*(source.desk.ended() for _ in range(20)))
    waiting = [str(message.id) for message in messages[:PULL_CONCURRENCY]]
    reader.fails = {message_id: Unavailable("is opened", code=ALERT_OPENING) for message_id in waiting}
    assert await reader.puller.pull_now() == 20 - len(waiting)
    reader.fails = {}
    assert await reader.puller.pull_now() == len(waiting)


@pytest.mark.logs_error("feed.entry_refused")
@pytest.mark.parametrize("how", ["refused", "failing"])
async def test_what_stays_unfinished_blocks_no_later_page(source: Source, reader: Reader, how: str) -> None:
    """Pages after an entry that is not done yet are read all the same; that entry is handled when it can be."""
    messages = await source.publish(*(source.desk.ended() for _ in range(PULL_LIMIT * 2)))
    first, *rest = sorted(messages, key=lambda message: message.id)

    def tamper(page: dict[str, Any]) -> None:
        for entry in page["entries"]:
            if entry["id"] == str(first.id):
                entry["signature"] = "AAAA"

    if how == "refused":
        source.tamper = tamper
    else:
        reader.fails[str(first.id)] = ZeroDivisionError()
    assert await reader.puller.pull_now() == len(rest)
    later = await source.publish(source.desk.ended())
    assert await reader.puller.pull_now() == len(later)
    source.tamper, reader.fails = None, {}
    again = reader.restarted()
    assert await again.pull_now() == 1
    await again.close()
    assert sorted(reader.handled) == sorted(str(message.id) for message in (first, *rest, *later))


async def test_reading_past_the_unfinished_is_bounded(
    source: Source, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass reads so many pages past an entry that is not done, and the others when it is."""
    monkeypatch.setattr(feed, "PULL_LIMIT", 2)
    monkeypatch.setattr(feed, "PAGES_PAST_UNFINISHED_MAX", 3)
    messages = await source.publish(*(source.desk.ended() for _ in range(12)))
    second = sorted(message.id for message in messages)[1]
    reader.fails[str(second)] = ZeroDivisionError()
    assert await reader.puller.pull_now() == 1 + 3 * 2
    reader.fails = {}
    assert await reader.puller.pull_now() == 5
    assert sorted(reader.handled) == sorted(str(message.id) for message in messages)


@pytest.mark.logs_error("feed.entry_refused")
async def test_forged_entry_is_never_handled_and_the_real_one_is_not_lost(source: Source, reader: Reader) -> None:
    """A tampered entry raises an alarm and is left; the genuine one is handled once the tampering ends."""
    first, second = await source.publish(source.desk.ended(), source.desk.ended())

    def tamper(page: dict[str, Any]) -> None:
        mine, other = sorted(page["entries"], key=lambda entry: entry["id"] != str(first.id))
        mine["data"] = other["data"]

    source.tamper = tamper
    assert await reader.puller.pull_now() == 1
    assert reader.handled == [str(second.id)]
    source.tamper = None
    assert await reader.puller.pull_now() == 1
    assert reader.handled == [str(second.id), str(first.id)]


async def test_page_of_another_feed_is_trouble(source: Source, reader: Reader) -> None:
    """A page that says it is another source's, or nonsense, is handled by nobody and noted as trouble."""
    await source.publish(source.desk.ended())
    for change in ({"source": "roster"}, {"audience": "NL"}, {"entries": 7}):
        source.tamper = lambda page, change=change: page.update(change)
        assert await reader.puller.pull_now() == 0
        assert reader.puller.trouble is not None
    source.tamper = None
    assert await reader.puller.pull_now() == 1
    assert reader.puller.trouble is None


async def test_rhythm_follows_the_bus(source: Source, reader: Reader) -> None:
    """Every ten seconds while the bus is healthy, every second while it is not."""
    await reader.puller.run_once()
    await source.publish(source.desk.ended())
    source.clock.advance(5)
    assert await reader.puller.run_once() == 0
    reader.healthy = False
    assert await reader.puller.run_once() == 1
    await source.publish(source.desk.ended())
    source.clock.advance(1)
    assert await reader.puller.run_once() == 1
    reader.healthy = True
    await source.publish(source.desk.ended())
    source.clock.advance(10)
    assert await reader.puller.run_once() == 1


async def test_pull_that_found_nothing_is_no_news(source: Source, reader: Reader) -> None:
    """A service that asks and finds nothing leaves a line at DEBUG; one that finds something, or a partner, at INFO."""
    partner = await source.member("NL")
    with capture_logs() as logs:
        await reader.puller.pull_now()
        await source.get(partner)
        await source.publish(source.desk.ended())
        await reader.puller.pull_now()
    assert [line["log_level"] for line in logs if line["event"] == "request.handled"] == ["debug", "info", "info"]


async def test_source_away_is_noted_and_read_later(source: Source, reader: Reader) -> None:
    """A source that does not answer is trouble, not an exception; what it has is read when it is back."""
    await source.publish(source.desk.ended())
    source.down = True
    assert await reader.puller.pull_now() == 0
    assert reader.puller.trouble == "it does not answer (ConnectError)"
    assert reader.puller.first_pull.is_set(), "a start does not wait for a source that is away"
    source.down = False
    assert await reader.puller.pull_now() == 1


async def test_lost_cursor_begins_anew(source: Source, reader: Reader) -> None:
    """A source that no longer knows our cursor is read from the beginning; the inbox drops what was handled."""
    await source.publish(source.desk.ended())
    await reader.puller.pull_now()
    async with source.desk.database.transaction() as tx:
        await tx.execute(text("UPDATE feed_cursors SET cursor = 'ar1.0.unknown'"))
    await source.publish(source.desk.ended())
    assert await reader.puller.pull_now() == 1
    assert len(reader.handled) == len(reader.tried) == 2
