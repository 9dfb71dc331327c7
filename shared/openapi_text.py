"""What the OpenAPI document says in prose: the introduction, and the tags in the order in which a developer meets them.

Plain CommonMark. Nothing here depends on a service or on settings.
"""

from __future__ import annotations

TAGS: dict[str, str] = {
    "Access": "A client id and its secret buy a token of 15 minutes. Start here.",
    "Alerts": "What a government raises: drafted by one person, released by another, never changed afterwards."
    " Corrections are Updates.",
    "Crises": "The situations that alerts belong to.",
    "Stream": "Everything that you may see, pushed as it happens.",
    "Escalations": "One for each addressed partner and alert: its clock, its levels, its answer. Acknowledge here.",
    "Questions": "Ask the raiser back; the answer goes to all who were asked.",
    "Read-back": "Where the network asks for it: repeat country, request and time, and have it confirmed.",
    "Hand-overs": "From one shift to the next, signed by both; until then both are paged.",
    "Board": "Alert × partner at one glance, and as a stream.",
    "Statistics": "How fast partners acknowledge, drills apart.",
    "Webhooks": "What Red Phone sends to your own systems. Register them as endpoints of your roster.",
    "Line tests": "Once a month, unannounced: does somebody at each partner answer, at night and on holidays too?",
    "Heartbeats": "Whether every path would carry an alert, tried every hour.",
    "Feed": "Every event that concerns you, numbered and signed: for systems behind a firewall, and as a second road.",
    "Partners": "Who takes part, and who answers at an instant.",
    "Roster": "Your own offices, contacts, rotas, levels and endpoints. Nobody else reads or writes them.",
    "Swaps": "Stretches of shifts that one person offers and another takes.",
    "Call tree": "Whom to ring at each partner, in order, for the day when nothing electronic works.",
    "Calendars": "What your ministry's own calendar says of a rota, and rotas as calendars to subscribe to.",
    "Contact points": "How you yourself are reached: keep, verify and confirm it. It needs no role.",
    "Readiness": "Whether the coming 14 days are proven: what is missing, and what to do about it.",
    "Credentials": "One for each person or system. Secrets are shown once.",
    "Network": "The network file and its deadlines, for administrators.",
    "Installation": "Keys, health, and what every refusal means. Needs no token.",
}

INTRODUCTION = """\
An **alert** is raised by one government and addressed to others. From its release each addressed **partner** owes
an answer: an **escalation** begins, with its own clock. Red Phone **pages** whoever is on duty there, and the
partner's own systems by signed webhook. A machine's receipt proves delivery and nothing more; only a named human's
**acknowledgement** stops that partner's escalation, and no other's. If nobody answers in time the next **level** is
paged, and when all levels are spent the partner is **unreached**: people of the raiser and of the secretariat take
over.

## The first five minutes

    curl -s $URL/v1/tokens -H 'content-type: application/json' \\
      -d '{"client_id": "ca-duty-officer", "client_secret": "rps_…"}'
    # {"access_token": "eyJ…", "token_type": "Bearer", "expires_in": 900, …}

    curl -s $URL/v1/alerts -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' \\
      -H "idempotency-key: $(uuidgen)" \\
      -d '{"headline": "Kabul: flights needed", "countries": ["AFG"], "to": ["US", "GB"], "precedence": "FLASH"}'

    curl -s $URL/v1/alerts/RP-CA-2021-0001/release -H "authorization: Bearer $SECOND_PERSONS_TOKEN" \\
      -H 'content-type: application/json' -d '{"precedence": "FLASH"}'

    curl -s "$URL/v1/escalations?alert_id=$ID" -H "authorization: Bearer $TOKEN"

    curl -s $URL/v1/acknowledgements -H "authorization: Bearer $OTHER_GOVERNMENTS_TOKEN" \\
      -H 'content-type: application/json' -d '{"alert_ids": "all"}'

## Tokens

`POST /v1/tokens` takes client id and secret as JSON, as a form, or by HTTP Basic (RFC 6749, client credentials),
and gives a token that is valid for 15 minutes at every service. Send it as `Authorization: Bearer …`. It ends
earlier when its credential is changed or revoked; on `token_expired` or `credential_revoked` get a new one. A
credential belongs to one person or to one system. Only persons draft and release, and whoever releases has written
none of it. A system acknowledges only by naming a contact of its government's duty plan.

## Retries: Idempotency-Key

A creating `POST` takes the header `Idempotency-Key`: any text of 1 to 200 visible ASCII characters that is new for
each new request, best a UUID. If an answer does not arrive, send the *same* request with the *same* key: it is done
once, and every retry gets the first answer, marked `Idempotency-Replayed: true`. Keys are kept for at least 24
hours, for each credential and call. Instead of a key many requests take an `id` of your own (a UUID of version 7).
A 503 says that nothing is known to be wrong with your request, never that it was not stored: retry.

What answers for itself needs no key: sending an acknowledgement, a position or a takeover twice changes nothing.

## Edits: ETag and If-Match

Reading something that can be edited gives an `ETag`. Send it back as `If-Match` with the edit: if somebody else was
faster you get 412 and nothing is overwritten; without the header you get 428. All that a partner owns in its roster
shares one ETag.

## Refusals

Every refusal is a problem after RFC 9457, of type `application/problem+json`:

    {"type": "/problems/invalid", "title": "The input is wrong", "status": 422,
     "detail": "the input is wrong in: precedence", "instance": "urn:uuid:017b4925-…", "code": "invalid",
     "errors": [{"field": "precedence", "detail": "Input should be 'FLASH', …", "code": "enum"}]}

Write programs against `code`, which is stable; `detail` is for people. `errors` names each wrong field as it stands
in your JSON and what would be right. `instance` is the id under which our log has the request: tell it to the
operator. `GET /problems` lists every code. What belongs to somebody else and what does not exist answer the same
404. Unknown fields are refused, so that a typing error is not a silent change. Any call may also answer 414
(address too long), 431 (headers too large) and 405.

Send your own `X-Request-Id` (a UUID) and it becomes the `instance`; it comes back with every answer.

## Times, codes, places

Instants are RFC 3339 and end in `Z`; in requests any offset is taken, but there must be one. Durations end in
`_seconds`. Partners are ISO 3166-1 alpha-2 (`CA`), `EU`, and `XR` for the secretariat; countries of a crisis are
alpha-3 (`AFG`). Places are GeoJSON: longitude first. CAP 1.2 XML keeps CAP's own forms. JSON is `snake_case`;
fields may be added to answers at any time, so pass over those that you do not know.

## Lists

Lists answer `{"items": […], "next_cursor": "…"}`. Send `next_cursor` back as `cursor` until it is null. Cursors are
opaque, and nothing is skipped or shown twice while rows arrive. `limit` is at most 200.

## Webhooks

Register your system with `POST /v1/partners/{code}/endpoints`; it needs https and a public address. Messages follow
[Standard Webhooks](https://www.standardwebhooks.com) with Ed25519 signatures. The body is always `{"type": …,
"timestamp": …, "data": …}`; the section *Webhooks* has the body of each type. Pass over types that you do not know,
with a 2xx.

To verify, take the raw body before anything parses it, and join with full stops `webhook-id`, `webhook-timestamp`
and body: `{id}.{timestamp}.{body}`. One of the signatures in `webhook-signature` (separated by spaces, each `v1a,`
and base64) must be the Ed25519 signature of these bytes by a key among `webhook_keys` in
`/.well-known/redphone-keys` (`whpk_` and base64 of 32 bytes). Refuse a timestamp that is more than five minutes
away from your clock, and drop a `webhook-id` that you have had: the same message may rightly come again.

Answer 2xx within 5 seconds, before you do anything with it; redirects are not followed. Anything else is tried
again after 1, 2, 4, 8, 15, 30 and 60 seconds and then every minute, until you answer 2xx, somebody acknowledges, or
the alert ends. **A 2xx says that your machine has it. It acknowledges nothing**: for that a human, or your system
in the name of one, calls `POST /v1/acknowledgements`. At `TLP:RED` and `TLP:AMBER+STRICT` a message carries only
id, precedence, one line and a link.

`POST /v1/endpoints/{endpoint_id}/ping` sends a test message. `GET /v1/deliveries` is the log of what was sent, with
each attempt and its reason; a message, or all of a time, can be sent again under the same id and byte for byte.

## Streams

`GET /v1/stream` and `GET /v1/board/stream` are server-sent events (`text/event-stream`):

    retry: 2000

    id: WzEsNDJd
    event: partner_acknowledged
    data: {"id": "…", "alert_id": "…", "at": "2021-08-15T09:33:45Z", "type": "partner_acknowledged", "data": {…}}

    : ping

Reconnect with `Last-Event-ID` and you miss nothing. A ping comes every 15 seconds; a stream that is silent for
longer is dead. One credential may have 20 open.

## Feed

`GET /v1/feed/alerting`, `/roster` and `/escalation` give every event that concerns you, oldest first, each signed
on its own. Keep `next_cursor` and send it as `after`; go on at once while `has_more`. Entries may come twice: their
`id` tells. The signature is Ed25519, in base64, over these lines joined by line feeds in UTF-8: `redphone-feed-v1`,
source, audience, cursor, id, type, time, correlation_id, causation_id (or an empty line) and data as it stands
after the page's JSON has been decoded; the key is the one of `feed_keys` whose `kid` is `key_id`. AsyncAPI
describes the events themselves."""
