"""The rows of escalation. `load_*` locks, `find_*` does not.

    alert_heads     one row per alert that was heard of, also if only its end was
    escalations     one partner's obligation; `due_at` is when the next thing happens
    pages           one message to one contact point; attempts: one try each, with its reason
    duty_plans      the newest plan of every partner; partners: office and endpoints as published
    point_health    contact points that failed several times in a row, or for good
    verifications   the newest code that was sent to each contact point; the code itself is nowhere
    notices         which notices were issued; their words are in their pages

Locks are taken in one order everywhere: alert head, escalations by id, pages. There are no foreign keys between these
tables: a thousand pages that lock one alert row cost more than all the rest of the fan-out.

The cast: `tables` says what the rows look like, `rows` turns them into values and back; `heads`, `escalations`, `pages`
and `plans` load, find and save what their names say, and `inserting` writes what is new. All of it is used from here.
"""

from services.escalation.store.escalations import (
    count_stuck,
    find_carried_to,
    find_escalation,
    find_escalation_id,
    find_next_due,
    find_open_alerts_of,
    find_points_paged,
    find_taken_over,
    find_takeover_family,
    load_asked_of,
    load_due,
    load_many,
    load_of_alert,
    load_one,
    load_takeovers,
    load_unattempted,
    save,
    save_due_without_levels,
    save_stopped,
)
from services.escalation.store.heads import (
    begin_opening,
    find_content,
    find_heads,
    is_opening,
    load_head,
    load_newest,
    save_answered,
    save_end,
    save_facts,
    save_release,
    save_superseded,
)
from services.escalation.store.inserting import (
    insert_events,
    insert_opened,
    insert_pages,
)
from services.escalation.store.pages import (
    ENDING_TYPES,
    NOT_SENT,
    PAGE_COLUMNS,
    count_attempts,
    end_pages,
    find_message,
    find_next_page_due,
    find_paged_points,
    find_raisers,
    find_still_leased,
    hold_pages,
    lease_pages,
    load_waiting,
    save_arrived,
    save_due,
    save_reopened,
    save_results,
    save_sent_with,
)
from services.escalation.store.plans import (
    Versions,
    find_bodies,
    find_signed,
    find_versions,
    forget_failures,
    save_failures,
    save_partner,
    save_plan,
    save_told,
)
from services.escalation.store.rows import (
    AlertHead,
    BegunOpening,
    actor_of,
    dump,
    facts_of_json,
    position_of_json,
)
from services.escalation.store.tables import (
    Row,
    metadata,
    point_health,
    verifications,
)

__all__ = [
    "ENDING_TYPES",
    "NOT_SENT",
    "PAGE_COLUMNS",
    "AlertHead",
    "BegunOpening",
    "Row",
    "Versions",
    "actor_of",
    "begin_opening",
    "count_attempts",
    "count_stuck",
    "dump",
    "end_pages",
    "facts_of_json",
    "find_bodies",
    "find_carried_to",
    "find_content",
    "find_escalation",
    "find_escalation_id",
    "find_heads",
    "find_message",
    "find_next_due",
    "find_next_page_due",
    "find_open_alerts_of",
    "find_paged_points",
    "find_points_paged",
    "find_raisers",
    "find_signed",
    "find_still_leased",
    "find_taken_over",
    "find_takeover_family",
    "find_versions",
    "forget_failures",
    "hold_pages",
    "insert_events",
    "insert_opened",
    "insert_pages",
    "is_opening",
    "lease_pages",
    "load_asked_of",
    "load_due",
    "load_head",
    "load_many",
    "load_newest",
    "load_of_alert",
    "load_one",
    "load_takeovers",
    "load_unattempted",
    "load_waiting",
    "metadata",
    "point_health",
    "position_of_json",
    "save",
    "save_answered",
    "save_arrived",
    "save_due",
    "save_due_without_levels",
    "save_end",
    "save_facts",
    "save_failures",
    "save_partner",
    "save_plan",
    "save_release",
    "save_reopened",
    "save_results",
    "save_sent_with",
    "save_stopped",
    "save_superseded",
    "save_told",
    "verifications",
]
