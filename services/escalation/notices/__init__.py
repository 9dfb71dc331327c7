"""Notices: what people are told about their roster, and about what of it fails. Nobody has to answer one.

The cast: `domain` chooses contact points and the instants at which their pages are due, `issuing` writes the pages,
`store` knows which notices were issued. What a notice says is in `people.notice_texts`. Roster issues notices by event;
whatever in this service has something to tell calls `issue` in its own transaction.

The promise: one notice, one page to each contact point, however often it is told. It is tried until it expires, goes
behind every alert and every drill, and rings nobody at night unless it is urgent.
"""

from services.escalation.notices.issuing import forget_notices, issue

__all__ = ["forget_notices", "issue"]
