"""A partner receives only what it is entitled to: in answers, streams, feeds, webhooks, logs, on the bus (I8).

Every name, number, address, secret and text in this network is a mark that occurs once. A crisis is played through
every state; then everything that anybody can read is read by every kind of credential of every partner, and searched
for the marks of all others.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter
from structlog.testing import capture_logs

from services.escalation.webhooks import WEBHOOKS
from shared.openapi import operations_of
from shared.problems import PROBLEMS
from tests.support.cluster import Cluster
from tests.support.documented import build_document
from tests.support.marked_network import PARTNERS, Mark, MarkedNetwork, marked_network
from tests.support.world import World, world

CRAWLING = ("duty", "keeper", "observer", "auditor", "secretariat", "administrator")
"""One credential for each way of reading: those left out read as duty officers do."""

ADDRESSED = ("US", "GB", "DE")

SOME_PAGES = """
SELECT DISTINCT ON (partner, contact_id IS NULL, message_type, alert_id) id FROM pages
ORDER BY partner, contact_id IS NULL, message_type, alert_id
"""
"""One page of each kind: to a system or a person of each partner, of each type, about each alert."""


@dataclass
class Played:
    """The crisis after it was played: who may see which mark, and ids to read."""

    world: World
    network: MarkedNetwork
    entitled: dict[str, frozenset[str]] = field(default_factory=dict)
    """Partners that may see a text besides those that the rules of names and addresses give."""
    ids: dict[str, list[str]] = field(default_factory=dict)
    webhooks: list[tuple[str, str, bytes]] = field(default_factory=list)
    secrets_shown: list[str] = field(default_factory=list)

    async def call(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One call of a credential that must succeed."""
        sent = {**await self.network.sign_in(self.world, who), **self.world.key(), **headers}
        answer = await self.world.http.request(method, path, json=body, headers=sent)
        assert answer.status_code < 300, (who, method, path, answer.text)
        return answer.json()

    def text(self, mark: str, *partners: str) -> str:
        """A text that only these partners may read."""
        self.entitled[mark] = frozenset(partners)
        return mark


async def raise_alert(played: Played, name: str, tlp: str, *readers: str, **fields: Any) -> str:
    """An alert of Canada in which every text is a mark for those readers; released by a second person."""
    draft = await played.call(
        "ca-duty",
        "POST",
        "/v1/alerts",
        {
            "headline": played.text(f"Headline{name}", *readers),
            "description": played.text(f"Description{name}", *readers),
            "instruction": played.text(f"Instruction{name}", *readers),
            "note": played.text(f"Note{name}", *readers),
            "countries": ["AFG"],
            "to": list(ADDRESSED),
            "precedence": "FLASH",
            "tlp": tlp,
            **fields,
        },
    )
    await played.call("ca-releaser", "POST", f"/v1/alerts/{draft['id']}/release", {"precedence": "FLASH"})
    await played.world.settle()
    played.ids.setdefault("alert", []).append(draft["id"])
    return str(draft["id"])


async def escalations(played: Played, alert: str, kind: str = "answer") -> dict[str, str]:
    """Escalation ids of an alert by partner, as the secretariat sees them."""
    headers = await played.network.sign_in(played.world, "xr-secretariat")
    found = await played.world.http.get("/v1/escalations", params={"alert_id": alert, "kind": kind}, headers=headers)
    return {one["partner"]: one["id"] for one in found.json()["items"]}


async def play(played: Played) -> None:
    """Amber and red, a draft, answers with words, an unreached partner, a takeover, a correction, a recall."""
    everyone = ("CA", *ADDRESSED)
    await played.call(
        "ca-duty",
        "POST",
        "/v1/alerts",
        {
            "headline": played.text("HeadlineDraft", "CA"),
            "countries": ["AFG"],
            "to": ["US"],
            "precedence": "ROUTINE",
        },
    )
    goal = {"partners": len(ADDRESSED), "within_seconds": 900}
    amber = await raise_alert(played, "Amber", "TLP:AMBER", *everyone, "XR", coverage_goal=goal)
    red = await raise_alert(played, "Red", "TLP:RED", *everyone)
    lonely = await played.call(
        "ca-duty",
        "POST",
        "/v1/alerts",
        {
            "headline": played.text("HeadlineAlone", "CA", "US", "XR"),
            "countries": ["AFG"],
            "to": ["US"],
            "precedence": "FLASH",
            "self_release_reason": played.text("Reasonalone", "CA"),
        },
    )
    played.ids["alert"].append(lonely["id"])
    await played.world.settle()
    for alert in (amber, red):
        found = await escalations(played, alert)
        await played.call("us-duty", "POST", f"/v1/escalations/{found['US']}/acknowledgement", {})
        await played.call(
            "gb-senior",
            "POST",
            f"/v1/escalations/{found['GB']}/position",
            {
                "stance": "committed",
                "note": played.text(f"Answernote{alert[-6:]}", "GB", "CA"),
                "offer": played.text(f"Answeroffer{alert[-6:]}", "GB", "CA"),
            },
        )
    await talk(played, amber, red)
    await played.world.fast_forward(1900)
    takeover = (await escalations(played, amber, "takeover"))["CA"]
    await played.call("ca-duty", "POST", f"/v1/escalations/{takeover}/takeover")
    await played.world.settle()
    update = await played.call(
        "ca-duty",
        "POST",
        f"/v1/alerts/{amber}/updates",
        {"asks_anew": True, "description": played.text("DescriptionUpdate", *everyone, "XR")},
    )
    await played.call("ca-releaser", "POST", f"/v1/alerts/{update['id']}/release", {"precedence": "FLASH"})
    played.ids["alert"].append(update["id"])
    await played.world.settle()
    await played.call(
        "ca-releaser",
        "POST",
        f"/v1/alerts/{red}/cancel",
        {"note": played.text("Cancelnote", *everyone)},
    )
    listed = await played.world.http.get(
        "/v1/partners/CA/endpoints", headers=await played.network.sign_in(played.world, "ca-keeper")
    )
    for endpoint in listed.json()["items"]:
        await played.call("ca-keeper", "POST", f"/v1/contact-points/{endpoint['id']}/verification")
    await played.world.fast_forward(60)


async def talk(played: Played, amber: str, red: str) -> None:
    """Questions, one answered and one not, and read-backs, one of them wrong."""
    everyone = ("CA", *ADDRESSED)
    asked, strict = await escalations(played, amber), await escalations(played, red)
    open_one = {"text": played.text("QuestionOpen", "CA", "US", "XR")}
    await played.call("us-duty", "POST", f"/v1/escalations/{asked['US']}/questions", open_one)
    said = {"text": played.text("QuestionStrict", *everyone)}
    question = await played.call("gb-senior", "POST", f"/v1/escalations/{strict['GB']}/questions", said)
    answer = {"text": played.text("AnswerStrict", *everyone)}
    await played.call("ca-duty", "POST", f"/v1/questions/{question['id']}/answer", answer)
    for name, escalation_id in (("Amber", asked["US"]), ("Red", strict["US"])):
        words = {part: played.text(f"Repeated{part}{name}", "CA", "US") for part in ("country", "request", "time")}
        await played.call("us-duty", "POST", f"/v1/escalations/{escalation_id}/read-back", words)
    confirmation = {"correct": False, "note": played.text("Confirmationnote", "CA", "US")}
    await played.call("ca-duty", "POST", f"/v1/escalations/{asked['US']}/read-back/confirmation", confirmation)
    await played.world.settle()


def readable(allowed: dict[str, frozenset[str]], played: Played, who: str) -> set[str]:
    """The marks that one credential may read: its partner's share, cut down to what its role is for."""
    partner, role = played.network.partners[who], who.partition("-")[2]
    own = {mark for mark, partners in allowed.items() if partner in partners}
    # A person's numbers and addresses are that person's alone; colleagues see them masked.
    personal = {m for m in played.network.marks if m.kind == "point" and m.about.endswith((" phone", " mail"))}
    points = {m for m in played.network.marks if m.kind == "point" and m.owner == partner}
    themselves = {m.text for m in points if m.about.partition(" ")[0] == role}
    own -= {m.text for m in personal}
    if role == "administrator":
        # Runs the installation: issues credentials, and reads neither alerts nor rosters.
        return {mark.text for mark in played.network.marks if mark.kind == "name"} | themselves
    if role in {"auditor", "observer"}:
        return themselves
    own |= themselves
    if role in {"keeper", "secretariat"}:
        own -= {mark.text for mark in played.network.marks if mark.owner != partner and role == "keeper"}
    return own - played.entitled.keys() if role == "keeper" else own


def on_call_tree(name: str, played: Played, partner: str) -> set[str]:
    """What the call tree adds, for the day when nothing electronic works: the numbers of every office, and of one's own
    people.
    """
    if not name.startswith("get_call_tree"):
        return set()
    offices = {m.text for m in played.network.marks if m.kind in {"switchboard", "embassy"}}
    own = {m.text for m in played.network.marks if m.owner == partner and m.kind in {"point", "name", "rota", "label"}}
    return offices | own


def entitlement(played: Played) -> dict[str, frozenset[str]]:
    """Which partners may see each mark. Secrets and what nobody was entitled to are nobody's."""
    allowed = dict(played.entitled)
    for mark in played.network.marks:
        more: set[str] = set()
        if mark.kind == "name" and (mark.owner, mark.about) in {("US", "duty"), ("GB", "senior")}:
            more = {"CA"}  # the raiser learns the name of who answered
        if mark.kind in {"switchboard", "embassy"} and mark.owner in ADDRESSED:
            more = {"CA", "XR"}  # whoever takes an unreached partner over has to call it; each of them was, once
        if mark.kind == "endpoint description" and mark.owner in ADDRESSED:
            more = {"CA", "XR"}  # "told: endpoint …" is how the raiser knows what was tried
        if mark.kind == "endpoint description" and mark.owner == "CA":
            more = {"XR"}  # as above: the secretariat sees the raiser's takeover
        if mark.kind == "endpoint description" and mark.owner == "XR":
            more = {"CA"}  # and the raiser the secretariat's
        if mark.kind == "rota":
            more = {"XR"}  # the secretariat is told which rota has nobody on duty: it says a role, and no person
        allowed[mark.text] = frozenset({mark.owner, *more}) if mark.owner else frozenset()
    return allowed


@asynccontextmanager
async def played_world(cluster: Cluster, directory: Path) -> AsyncIterator[Played]:
    """The world after the crisis, with everything that has left it noted."""
    async with world(cluster, directory) as made:
        network = marked_network()
        await network.apply(made)
        played = Played(made, network)
        await play(played)
        for page in made.outlets["webhook"].sent:
            owner = page.target.partition("-")[2].partition(".")[0].upper()
            assert owner in PARTNERS, page.target
            played.webhooks.append((owner, page.message_type, page.body))
        yield played


async def readings(played: Played, who: str, document: dict[str, Any]) -> AsyncIterator[tuple[str, int, str]]:
    """Everything that a credential can ask for, whether it may or not: every GET with every id that there is."""
    made = played.world
    headers = await played.network.sign_in(made, who)
    values: dict[str, list[str]] = {
        "code": list(PARTNERS),
        "alert": played.ids["alert"],
        "crisis_id": [str(row.id) for row in await made.rows("alerting", "SELECT id FROM crises")],
        "escalation_id": [str(row.id) for row in await made.rows("escalation", "SELECT id FROM escalations")],
        "page_id": [str(row.id) for row in await made.rows("escalation", SOME_PAGES)],
    }
    for method, path, operation in operations_of(document):
        if method != "get" or path.endswith("/stream") or not path.startswith("/"):
            continue
        names = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
        # Things of a roster are reached by what their lists answer; no id of another partner leads anywhere.
        about_alert = any(one["name"] == "alert_id" and one.get("required") for one in operation.get("parameters", ()))
        choices = values["alert"] if about_alert else values.get(names[0], []) if names else [""]
        for choice in choices if len(names) < 2 else ():
            query = {"from": "2021-08-15T00:00:00Z", "to": "2021-08-16T00:00:00Z"} if path.endswith("/shifts") else {}
            query |= {"alert_id": choice} if about_alert else {}
            address = path.replace("{" + (names[0] if names else "-") + "}", choice)
            for accept in ("application/json", "application/cap+xml") if path == "/v1/alerts/{alert}" else ("*/*",):
                text, status = "", 0
                cursor: str | None = ""
                while cursor is not None:
                    more = {"after" if "/feed/" in path else "cursor": cursor} if cursor else {}
                    answer = await made.http.get(
                        address, params={**query, **more}, headers={**headers, "Accept": accept}
                    )
                    text, status = text + answer.text, answer.status_code
                    cursor = next_of(answer)
                yield f"{operation['operationId']} {choice}", status, text


def next_of(answer: Any) -> str | None:
    """The cursor of the next page, if the answer is a page and there is one."""
    if answer.status_code != 200 or "json" not in answer.headers["content-type"]:
        return None
    body = answer.json()
    if not isinstance(body, dict):
        return None
    if "has_more" in body:
        return str(body["next_cursor"]) if body["has_more"] else None
    return body.get("next_cursor")


def shown(text: str, marks: Iterable[str]) -> set[str]:
    """The marks that occur in a text, also where JSON stands in JSON."""
    return {mark for mark in marks if mark in text}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.logs_error("duty_plan.lacking")
async def test_nobody_reads_what_is_not_theirs(cluster: Cluster, tmp_path: Path) -> None:
    """No mark of another government in any answer, webhook, log line or bus message, beyond what the rules give."""
    document = build_document()
    with capture_logs() as logs:
        async with played_world(cluster, tmp_path) as played:
            allowed = entitlement(played)
            leaks: set[tuple[str, str, str]] = set()
            seen: dict[str, set[str]] = {code: set() for code in PARTNERS}
            crawling = [who for who in sorted(played.network.partners) if who.partition("-")[2] in CRAWLING]
            for who in crawling:
                partner = played.network.partners[who]
                own = readable(allowed, played, who)
                async for name, status, text in readings(played, who, document):
                    found = shown(text, allowed)
                    leaks |= {(who, name, mark) for mark in found - own - on_call_tree(name, played, partner)}
                    seen[partner] |= found
                    assert status != 500, (who, name)
                    if status >= 400 and not name.startswith("is_ready"):
                        assert found == set(), (who, name)
                        assert json.loads(text)["code"] in PROBLEMS
            for partner, kind, body in played.webhooks:
                found = shown(body.decode(), allowed)
                leaks |= {(partner, f"webhook {kind}", mark) for mark in found if partner not in allowed[mark]}
                red = {mark for mark in found if "Red" in mark}
                assert red == set(), "a channel carries no text of TLP:RED"
            assert [" · ".join(leak) for leak in sorted(leaks)] == []
            # The search would find what there is: each partner reads its own names and the texts meant for it.
            assert "HeadlineAmber" in seen["US"]
            assert "HeadlineRed" in seen["DE"]
            assert played.network.of("name", "US", "duty") in seen["CA"]
            assert played.network.of("switchboard", "DE") in seen["CA"]
            assert played.network.of("point", "NZ", "duty phone") in seen["NZ"]
            assert "HeadlineAmber" not in seen["NZ"]
            assert {"QuestionStrict", "AnswerStrict"} <= seen["DE"]
            assert {"QuestionOpen", "RepeatedcountryRed", "Confirmationnote"} <= seen["CA"]
            assert_stored_closed(played, await everything_stored(played))
            assert_bus_closed(played)
    said = "\n".join(str(line) for line in logs)
    assert shown(said, allowed) == set(), "a log line shows what belongs to somebody"


async def everything_stored(played: Played) -> str:
    """Every row of every table of every service, as text."""
    found = []
    for service in played.world.services:
        tables = await played.world.rows(
            service, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        for table in tables:
            rows = await played.world.rows(service, f"SELECT t::text AS row FROM {table.tablename} t")  # noqa: S608
            found += [row.row for row in rows]
    return "\n".join(found)


def closed(marks: Iterable[Mark]) -> list[str]:
    """Marks that stand in clear in no row and no message: secrets, and what people and systems are reached by."""
    return [mark.text for mark in marks if mark.kind in {"secret", "point", "endpoint"}]


def assert_stored_closed(played: Played, stored: str) -> None:
    """Contact points and secrets are sealed or hashed wherever they are kept."""
    assert shown(stored, closed(played.network.marks)) == set()
    assert "HeadlineAmber" in stored


def assert_bus_closed(played: Played) -> None:
    """No contact point and no secret travels in clear, in headers or bodies."""
    sent = "\n".join(f"{one.subject} {one.headers} {one.body.decode()}" for one in played.world.broker.stored)
    assert shown(sent, closed(played.network.marks)) == set()
    assert "HeadlineAmber" in sent


async def test_every_webhook_is_as_documented(cluster: Cluster, tmp_path: Path) -> None:
    """Each body that leaves fits the model that partners are shown, to the last field, whatever its label withholds."""
    models = {webhook.name: TypeAdapter(webhook.body) for webhook in WEBHOOKS}
    async with played_world(cluster, tmp_path) as played:
        kinds = set()
        for _, kind, body in played.webhooks:
            models[kind].validate_python(orjson.loads(body))
            kinds.add(kind)
        # A heartbeat goes to systems at its hour, not because of what is played.
        assert kinds == set(models) - {"test.heartbeat"}
