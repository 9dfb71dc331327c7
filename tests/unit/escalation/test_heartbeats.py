"""What the end of a heartbeat means: when it is tried again, when it is an alarm, and who is to know."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.heartbeats.domain import (
    FAILING_RETRY_AFTER,
    FIRST_WITHIN_SECONDS,
    INTERVAL,
    POSTPONED,
    PUBLISHED_AGAIN_AFTER,
    RETRY_AFTER,
    TOLD_AGAIN_AFTER,
    After,
    Certificate,
    Heartbeat,
    Kind,
    News,
    State,
    failed,
    first_turn,
    handed_over,
    next_turn,
    offset_of,
    passed,
    postponed,
)
from services.escalation.heartbeats.paths import compare

NOW = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
BEAT_ID = UUID(int=77)


def path(kind: Kind = Kind.ENDPOINT, **changes: Any) -> Heartbeat:
    """A path whose beat began a second ago."""
    fields: dict[str, Any] = {
        "id": UUID(int=1),
        "kind": kind,
        "partner": "GB",
        "channel": "webhook",
        "provider": None,
        "told": "crisis room",
        "sealed_address": "sealed",
        "next_at": NOW,
        "beat_id": BEAT_ID,
        "beat_at": NOW - timedelta(seconds=1),
        "leased_until": NOW + timedelta(seconds=29),
    }
    return Heartbeat(**{**fields, **changes})


def again(after: After, now: datetime, **changes: Any) -> Heartbeat:
    """The next beat of a path, begun at this instant."""
    return replace(after.heartbeat, beat_id=BEAT_ID, beat_at=now, **changes)


def answered(beat: Heartbeat, now: datetime = NOW, certificate: Certificate | None = None) -> After:
    """The beat was answered."""
    return passed(beat, now, answer_seconds=0.08, certificate=certificate)


def test_turns_are_spread_evenly() -> None:
    """Of a thousand endpoints no minute of the hour gets more than its share twice over, and none gets nothing."""
    per_minute = Counter(int(offset_of(UUID(int=n)).total_seconds()) // 60 for n in range(1000))
    assert len(per_minute) == 60
    assert max(per_minute.values()) < 34


@given(st.uuids(), st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_turn_comes_every_hour_at_the_same_time(path_id: UUID, now: datetime) -> None:
    """The next turn lies ahead by at most an hour, and the one after it exactly an hour later."""
    turn = next_turn(path_id, now)
    assert now < turn <= now + INTERVAL
    assert next_turn(path_id, turn) == turn + INTERVAL
    assert now <= first_turn(path_id, now) < now + timedelta(seconds=FIRST_WITHIN_SECONDS)


def test_the_first_answer_is_published_and_tells_nobody() -> None:
    """The other services hear of the first outcome; people hear nothing while all is well."""
    after = answered(path(), certificate=Certificate(NOW + timedelta(days=90)))
    assert (after.publishes, after.news) == (True, None)
    beat = after.heartbeat
    assert (beat.state, beat.answered_at, beat.answer_seconds) == (State.ANSWERING, NOW, 0.08)
    assert (beat.beat_id, beat.leased_until, beat.failures) == (None, None, 0)
    assert beat.next_at == next_turn(beat.id, NOW)
    assert beat.certificate_checked_at == NOW


def test_later_answers_are_published_once_a_day_or_with_another_certificate() -> None:
    """An hour later nothing is said; another certificate and a whole day are."""
    first = answered(path(), certificate=Certificate(NOW + timedelta(days=90)))
    later = NOW + INTERVAL
    assert not answered(again(first, later), later).publishes
    renewed = answered(again(first, later), later, Certificate(NOW + timedelta(days=180)))
    assert renewed.publishes
    day = NOW + PUBLISHED_AGAIN_AFTER
    assert answered(again(first, day), day).publishes


def test_one_failure_is_tried_again_and_two_are_an_alarm() -> None:
    """Five minutes after the first failure it is tried again; the second is told and published with its reason."""
    works = answered(path())
    once = failed(again(works, NOW), NOW, reason="HTTP 500")
    assert (once.news, once.publishes, once.heartbeat.state) == (None, False, State.ANSWERING)
    assert once.heartbeat.next_at == NOW + RETRY_AFTER
    later = NOW + RETRY_AFTER
    twice = failed(again(once, later), later, reason="HTTP 503")
    assert (twice.news, twice.publishes, twice.heartbeat.state) == (News.FAILED, True, State.FAILING)
    assert twice.heartbeat.failing_since_at == NOW
    assert twice.heartbeat.reason == "HTTP 503"
    assert twice.heartbeat.next_at == later + FAILING_RETRY_AFTER
    assert later - NOW < INTERVAL


def test_a_path_that_never_worked_is_an_alarm_as_well() -> None:
    """The first outcome of all may be that it does not answer; it is published as such."""
    once = failed(path(), NOW, reason="connection refused")
    assert once.heartbeat.state is State.UNCHECKED
    later = NOW + RETRY_AFTER
    twice = failed(again(once, later), later, reason="connection refused")
    assert (twice.news, twice.publishes, twice.heartbeat.state) == (News.FAILED, True, State.FAILING)


def test_an_endpoint_that_fails_on_is_told_once_and_published_daily() -> None:
    """People hear of it once; the other services once a day."""
    now, after = NOW, failed(path(failures=1, failing_since_at=NOW, answering=True, published_at=NOW), NOW, reason="x")
    assert after.news is News.FAILED
    told, published = 0, 0
    while now < NOW + timedelta(days=3):
        now += FAILING_RETRY_AFTER
        after = failed(again(after, now), now, reason="x")
        told += after.news is not None
        published += after.publishes
    assert (told, published) == (0, 3)


def test_recovery_is_told_and_published() -> None:
    """The first answer after an alarm ends it; a single failure in between is none to recover from."""
    fails = failed(path(failures=1, answering=True, published_at=NOW), NOW, reason="x")
    later = NOW + FAILING_RETRY_AFTER
    works = answered(again(fails, later), later)
    assert (works.news, works.publishes, works.heartbeat.state) == (News.RECOVERED, True, State.ANSWERING)
    assert (works.heartbeat.failures, works.heartbeat.failing_since_at, works.heartbeat.reason) == (0, None, None)
    once = failed(again(works, later), later, reason="x")
    assert answered(again(once, later), later).news is None


def test_a_path_that_comes_and_goes_is_told_once_an_hour() -> None:
    """Failing and recovering every quarter of an hour it wakes people once an hour, and the other services hear all."""
    now, works = NOW, answered(path(Kind.ENDPOINT))
    told, published = [], 0
    for _ in range(12):
        for _ in range(2):
            now += RETRY_AFTER
            works = failed(again(works, now), now, reason="x")
            told.append(works.news)
            published += works.publishes
        now += RETRY_AFTER
        works = answered(again(works, now), now)
        told.append(works.news)
        published += works.publishes
    assert told.count(News.FAILED) == told.count(News.RECOVERED) == 3
    assert published == 24


def test_a_failure_that_was_not_told_at_once_is_told_later() -> None:
    """Where people had just heard of the one before, they hear of this one an hour after that, if it lasts."""
    fails = failed(path(failures=1, answering=True, told_at=NOW - timedelta(minutes=30)), NOW, reason="x")
    assert (fails.news, fails.publishes, fails.heartbeat.state) == (None, True, State.FAILING)
    later = NOW + timedelta(minutes=30)
    assert failed(again(fails, later), later, reason="x").news is News.FAILED


def test_a_failure_that_lasts_an_interval_is_an_alarm() -> None:
    """Where the second try comes an hour late, because nothing ran meanwhile, and where the first took an hour."""
    hung = failed(path(beat_at=NOW - INTERVAL, answering=True), NOW, reason="x")
    assert hung.news is News.FAILED


def test_a_loop_back_that_does_not_come_back_is_an_alarm_within_its_interval() -> None:
    """Handing it over is waited on for an hour; then it is told at once, and the next one leaves at once."""
    out = handed_over(path(Kind.LOOP_BACK, answering=True), "SM1")
    assert out.heartbeat.is_out
    assert out.heartbeat.beat_at is not None
    due = out.heartbeat.beat_at + INTERVAL
    assert out.heartbeat.next_at == due
    after = failed(out.heartbeat, due, reason="it did not come back")
    assert (after.news, after.publishes, after.heartbeat.next_at) == (News.FAILED, False, due)
    assert (after.heartbeat.is_out, after.heartbeat.beat_id, after.heartbeat.provider_id) == (False, None, None)


def test_a_loop_back_is_told_again_each_day_while_it_fails() -> None:
    """Of a provider that stays away for three days the secretariat hears four times."""
    now, after = NOW, failed(path(Kind.LOOP_BACK, failures=1), NOW, reason="HTTP 503")
    news = [after.news]
    while now < NOW + 3 * TOLD_AGAIN_AFTER:
        now += FAILING_RETRY_AFTER
        after = failed(again(after, now), now, reason="HTTP 503")
        news.append(after.news)
    assert [one for one in news if one is not None] == [News.FAILED, *[News.STILL_FAILING] * 3]


def test_what_could_not_be_sent_says_nothing_of_the_path() -> None:
    """A process that ends, or has no channel, blames nobody: the beat is sent a minute later."""
    beat = postponed(path(answering=True), NOW).heartbeat
    assert (beat.failures, beat.state, beat.next_at) == (0, State.ANSWERING, NOW + POSTPONED)
    assert (beat.beat_id, beat.leased_until) == (None, None)


@pytest.mark.parametrize(
    ("changes", "keep", "expected"),
    [
        ({}, set(), (0, 0, 0)),
        ({"sealed_address": "elsewhere"}, set(), (0, 1, 0)),
        ({"told": "ops room"}, set(), (0, 1, 0)),
        ({"id": UUID(int=2)}, set(), (1, 0, 1)),
        ({"id": UUID(int=2)}, {"GB"}, (1, 0, 0)),
    ],
)
def test_paths_come_and_go_with_endpoints(
    changes: dict[str, Any], keep: set[str], expected: tuple[int, int, int]
) -> None:
    """New ones are added, moved ones tried anew, removed ones forgotten, unless what is there could not be read."""
    changed = compare([path()], [replace(path(), **changes)], keep=keep)
    assert (len(changed.new), len(changed.moved), len(changed.gone)) == expected


def test_what_others_send_is_not_gone() -> None:
    """A path that is not ours to forget stays, and what is wanted of it is taken over all the same."""
    others = {path().id}
    assert compare([path()], [], keep=set(), others=others).gone == ()
    assert len(compare([path()], [replace(path(), told="ops room")], keep=set(), others=others).moved) == 1
