"""escalation — reaching them: escalations, pages, attempts, acknowledgements, every deadline, delivery.

The cast
    model       the nouns: an escalation as a value, and what a decision comes to
    domain      one partner's obligation to answer one alert: `decide` says what happens next, purely
    levels      which level is paged, and when the next one is, purely
    opening     how an escalation begins: fresh, carried over by an Update, as a takeover, purely
    directory   whom a duty plan says to page at a level, purely
    messages    the text that a page carries, as far as handling allows, purely
    handlers    what the bus tells, by who says it: `alerts`, `answers`, `rosters`
    answers     what people ask: acknowledge, take a position, take over, raise a level
    saving      writes what was decided, with events and record, in one transaction
    telling     informs partners without asking anything of them; the alarm of a gap in a duty plan
    handover    how pages that were just committed reach the senders of the same process, under their lease
    timers      claims escalations whose due time has come and asks `decide`
    delivery    claims due pages, sends them through `channels`, records every attempt with its reason
    deps        what handlers and loops need
    store       the rows: alert heads, escalations, pages, attempts, duty plans, partners
    reading     escalations for people, and the one rule of who sees them; `views` is their JSON
    api         the HTTP face; `board` is what operators watch
    paging      when each contact point of whoever is paged gets its page, purely; `turns` starts the next one early
    receipts    what providers say later of messages that they took; `health` counts which contact points fail
    sender      a process of its own that signs and sends webhooks; `warming` prepares the first page
    heartbeat   the sign of life that somebody outside waits for; `heartbeats`, below, is about ways to others

And by topic, each with a cast of its own
    channels      the ways in which a page leaves the house, one file each
    people        what a person is told, in seven languages
    answering     answers from the channel itself: links, codes, replies, calls
    joining       adding somebody to a running escalation, and stopping one's own pages
    talk          questions back to the raiser, and read-backs
    coverage      coverage goals
    verification  whether a contact point reaches whom it should
    notices       what people are told about their roster
    hand_overs    who has signed the change from one shift to the next, and until then both are paged
    heartbeats    whether every endpoint and every provider would carry an alert, tried hourly
    deliveries    messages to systems: tests, the log, sending again

The promise: a released alert opens exactly one escalation for each addressed partner, in one transaction with the
pages of its first level. An acknowledgement and the stop are one transaction on one locked row, and the timer that
would raise the level locks the same row. Every wait is a row with a due time, so after any crash the work is found
again by looking.
"""
