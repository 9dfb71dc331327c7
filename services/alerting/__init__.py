"""alerting — what is said: crises, alerts, their release, their audience, and the timeline of what came back.

The cast
    domain      the life of an alert, and who may do what, purely
    crises      the situations that alerts belong to, with a domain, handlers, store and api of their own
    content     what an alert says: composing it, its defaults and its limits, purely
    cap         OASIS CAP 1.2 in and out, purely
    visibility  who may read what, purely
    handlers    what HTTP asks and what the bus tells; ends with SUBSCRIPTIONS; `calls` is a request as they take it
    journal     what is written down beside a change: timeline rows and record rows
    line_tests  monthly tests of whether somebody answers: plan, domain, handlers, loop, store and api of their own
    expiry      ends alerts whose time has passed
    confirming  watches that every released alert has opened its escalations, and says it again until it has
    stream      everything that a caller may see, as it happens
    store       the rows: alerts, timeline, partners, reference counters; `tables` says what they look like
    reading     what viewers read of them
    views       alerts, crises and timeline as a viewer may see them
    api         the HTTP face; `bodies` is what it accepts, `face` what every route works with
    app         puts all of this together

The promise: alert, outbox row and record are one transaction, and 202 is answered after its commit. A crash after that
loses nothing: the relay finds the row. What was released never changes, and whoever it reached is reached by its
correction and by its end.
"""
