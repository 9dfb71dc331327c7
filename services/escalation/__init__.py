"""escalation — reaching them: escalations, pages, attempts, acknowledgements, every deadline, delivery.

The cast
    model       the nouns: an escalation as a value, and what a decision comes to
    domain      one partner's obligation to answer one alert: `decide` says what happens next, purely
    levels      which level is paged, and when the next one is, purely
    opening     how an escalation begins: fresh, carried over by an Update, as a takeover, purely
    directory   whom a duty plan says to page at a level, purely
    messages    the text that a page carries, as far as handling allows, purely
    handlers    what the bus tells; ends with SUBSCRIPTIONS
    answers     what people ask: acknowledge, take a position, take over, raise a level
    saving      writes what was decided, with events and record, in one transaction
    handover    how pages that were just committed reach the senders of the same process, under their lease
    timers      claims escalations whose due time has come and asks `decide`
    delivery    claims due pages, sends them through `channels`, records every attempt with its reason
    store       the rows: alert heads, escalations, pages, attempts, duty plans, partners
    reading     escalations for people, and the one rule of who sees them; `views` is their JSON
    api         the HTTP face; `board` is what operators watch
    mail        what our mails look like and what an incoming one says, purely; `inbound_mail` does what it says
    deliveries  messages to systems: tests, the log (`delivery_log`), sending again; `api_deliveries` is its HTTP face
    provider_api   what telephone providers tell: receipts, replies by SMS, what a call is to say next

The promise: a released alert opens exactly one escalation for each addressed partner, in one transaction with the
pages of its first level. An acknowledgement and the stop are one transaction on one locked row, and the timer that
would raise the level locks the same row. Every wait is a row with a due time, so after any crash the work is found
again by looking.
"""
