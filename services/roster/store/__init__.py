"""The rows of roster. `load_*` locks, `find_*` does not.

    partners            one row each, with `version` (counts every change, the ETag) and the state of its duty plan
    offices, contacts, contact_points, rotas, overrides, replacements, policies, endpoints, issued_credentials
                        what a partner owns, in its order (`place`)
    imported_shifts     what the partner's own calendars say of a rota, in the order of time
    deadlines           the network's table
    seeded_hashes       what a network file last wrote of an object, kept when the object is removed
    point_health        what escalation says about contact points and endpoints

Whoever writes for a partner holds its row's lock, which orders all writes of one partner; network files also hold one
lock together, so that two of them never create the same thing. Addresses are encrypted, each bound to its own id; the
form in which they leave, sealed for escalation, lies beside them with the name of the sealing key.

The cast: `tables` says what the rows look like, `reading` finds partners whole and in part, `writing` saves what
changed of them, `health` and `plans` load and save what their names say. All of it is used from here.
"""

from services.roster.store.health import (
    Health,
    find_failing,
    forget_hard_failure,
    save_health,
)
from services.roster.store.plans import (
    DueState,
    SavedPlan,
    Unsealed,
    find_for_plans,
    find_plan_troubles,
    find_plans_due,
    find_unsealed,
    save_plan_failure,
    save_plans,
    save_sealed,
)
from services.roster.store.reading import (
    PartnerSummary,
    StoredDeadlines,
    StoredPartner,
    find_answering,
    find_client_partners,
    find_deadlines,
    find_partner,
    find_seeded,
    find_summaries,
    find_summary,
    find_taken_ids,
    find_without_addresses,
    load_partner,
    load_partners,
    lock_network,
)
from services.roster.store.tables import (
    contact_points,
    contacts,
    endpoints,
    issued_credentials,
    metadata,
    offices,
    partners,
    rotas,
)
from services.roster.store.writing import (
    save_deadlines,
    save_partner,
    save_seeded,
)

__all__ = [
    "DueState",
    "Health",
    "PartnerSummary",
    "SavedPlan",
    "StoredDeadlines",
    "StoredPartner",
    "Unsealed",
    "contact_points",
    "contacts",
    "endpoints",
    "find_answering",
    "find_client_partners",
    "find_deadlines",
    "find_failing",
    "find_for_plans",
    "find_partner",
    "find_plan_troubles",
    "find_plans_due",
    "find_seeded",
    "find_summaries",
    "find_summary",
    "find_taken_ids",
    "find_unsealed",
    "find_without_addresses",
    "forget_hard_failure",
    "issued_credentials",
    "load_partner",
    "load_partners",
    "lock_network",
    "metadata",
    "offices",
    "partners",
    "rotas",
    "save_deadlines",
    "save_health",
    "save_partner",
    "save_plan_failure",
    "save_plans",
    "save_sealed",
    "save_seeded",
]
