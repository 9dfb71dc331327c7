"""Proof that a roster will hold: what the coming 14 days lack, told before it hurts.

    findings    what can be found, how bad it is, what to do about it
    checks      finds it, from a partner's state and what is known of its points and systems, purely
    score       one number from that, purely
    telling     who has to be told of what, and what they know already, purely
    what_if     what a change would bring about and set right, purely
    store       the rows: the newest proof of each partner, its scores by day, and what was told
    handlers    what heartbeats said of endpoints
    proving     the loop: after each duty plan and each hour a proof of every partner, and whatever it makes due
    views, api  what its own people see of it, and what the secretariat sees

The promise: a hole that begins within 24 hours is told to the partner and to the secretariat at once, in the
transaction that found it, so that a crash tells it later and never not at all. Everything else waits for one digest a
week, of what lies ahead and is new or worse.
"""
