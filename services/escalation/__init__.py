"""escalation — reaching them: escalations, pages, attempts, acknowledgements, every deadline, delivery.

The cast
    domain      one partner's obligation to answer one alert: `decide` says what happens next, purely
    directory   whom a duty plan says to page at a level, purely
    messages    the text that a page carries, as far as handling allows, purely
    handlers    what HTTP asks and what the bus tells; ends with SUBSCRIPTIONS
    timers      claims escalations whose due time has come and asks `decide`
    delivery    claims due pages, sends them through `channels`, records every attempt with its reason
    store       the rows: alert heads, escalations, pages, attempts, duty plans, partners
    api         the HTTP face; `board` is what operators watch

The promise: a released alert opens exactly one escalation for each addressed partner, in one transaction with the
pages of its first level. An acknowledgement and the stop are one transaction on one locked row, and the timer that
would raise the level locks the same row. Every wait is a row with a due time, so after any crash the work is found
again by looking.
"""
