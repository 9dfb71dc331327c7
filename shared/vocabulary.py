"""The closed sets of words: what CAP 1.2, TLP 2.0 and the network itself call things. Each value is its wire form.

`shared.contracts` offers these beside the events that use them; import them from there.
"""

from __future__ import annotations

from enum import StrEnum


class Precedence(StrEnum):
    """How fast: it decides every deadline. Never derived from severity or from handling."""

    FLASH = "FLASH"
    IMMEDIATE = "IMMEDIATE"
    PRIORITY = "PRIORITY"
    ROUTINE = "ROUTINE"

    @property
    def rank(self) -> int:
        """0 is the most urgent."""
        return list(Precedence).index(self)


class Tlp(StrEnum):
    """Who may read: Traffic Light Protocol 2.0 labels, in their own spelling."""

    RED = "TLP:RED"
    AMBER_STRICT = "TLP:AMBER+STRICT"
    AMBER = "TLP:AMBER"
    GREEN = "TLP:GREEN"
    CLEAR = "TLP:CLEAR"

    @property
    def link_only(self) -> bool:
        """Whether channels, webhooks too, may carry only id, precedence and link."""
        return self in (Tlp.RED, Tlp.AMBER_STRICT)


class Status(StrEnum):
    """CAP 1.2 `status`. Never changes along a chain of references."""

    ACTUAL = "Actual"
    EXERCISE = "Exercise"
    SYSTEM = "System"
    TEST = "Test"
    DRAFT = "Draft"


class MsgType(StrEnum):
    """CAP 1.2 `msgType`."""

    ALERT = "Alert"
    UPDATE = "Update"
    CANCEL = "Cancel"
    ACK = "Ack"
    ERROR = "Error"


class Category(StrEnum):
    """CAP 1.2 `category`."""

    GEO = "Geo"
    MET = "Met"
    SAFETY = "Safety"
    SECURITY = "Security"
    RESCUE = "Rescue"
    FIRE = "Fire"
    HEALTH = "Health"
    ENV = "Env"
    TRANSPORT = "Transport"
    INFRA = "Infra"
    CBRNE = "CBRNE"
    OTHER = "Other"


class ResponseType(StrEnum):
    """CAP 1.2 `responseType`."""

    SHELTER = "Shelter"
    EVACUATE = "Evacuate"
    PREPARE = "Prepare"
    EXECUTE = "Execute"
    AVOID = "Avoid"
    MONITOR = "Monitor"
    ASSESS = "Assess"
    ALL_CLEAR = "AllClear"
    NONE = "None"


class Urgency(StrEnum):
    """CAP 1.2 `urgency`."""

    IMMEDIATE = "Immediate"
    EXPECTED = "Expected"
    FUTURE = "Future"
    PAST = "Past"
    UNKNOWN = "Unknown"


class Severity(StrEnum):
    """CAP 1.2 `severity`: of the crisis, not of the message."""

    EXTREME = "Extreme"
    SEVERE = "Severe"
    MODERATE = "Moderate"
    MINOR = "Minor"
    UNKNOWN = "Unknown"


class Certainty(StrEnum):
    """CAP 1.2 `certainty`."""

    OBSERVED = "Observed"
    LIKELY = "Likely"
    POSSIBLE = "Possible"
    UNLIKELY = "Unlikely"
    UNKNOWN = "Unknown"


class Standing(StrEnum):
    """A partner's standing in the network."""

    MEMBER = "member"
    PARTICIPATING = "participating"
    SECRETARIAT = "secretariat"


class Role(StrEnum):
    """What a credential may do; a credential may hold several."""

    DRAFTER = "drafter"
    RELEASER = "releaser"
    DUTY_OFFICER = "duty_officer"
    SENIOR_CONTACT = "senior_contact"
    ROSTER_MANAGER = "roster_manager"
    SECRETARIAT = "secretariat"
    OBSERVER = "observer"
    AUDITOR = "auditor"
    ADMINISTRATOR = "administrator"


class CredentialKind(StrEnum):
    """A credential belongs to one person or to one system. Only persons draft and release."""

    PERSON = "person"
    SYSTEM = "system"


class ChannelName(StrEnum):
    """The ways to reach a contact, an office or a partner's own systems."""

    WEBHOOK = "webhook"
    EMAIL = "email"
    SMS = "sms"
    VOICE = "voice"
    PUSH = "push"
    CHAT = "chat"


class EscalationKind(StrEnum):
    """What a partner owes: an answer; nothing but to be told; or to take an unreached partner over."""

    ANSWER = "answer"
    INFORMATION = "information"
    TAKEOVER = "takeover"


class EscalationState(StrEnum):
    """Where one partner's obligation stands."""

    PENDING = "pending"
    NOTIFIED = "notified"
    ACKNOWLEDGED = "acknowledged"
    CONSIDERING = "considering"
    COMMITTED = "committed"
    DECLINED = "declined"
    NOTED = "noted"
    UNREACHED = "unreached"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why an alert, and with it every escalation of it, ended."""

    CANCELLED = "cancelled"
    CLOSED = "closed"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    ACKNOWLEDGED = "acknowledged"
    """Only for escalations of kind takeover: the partner that was unreached has answered."""


class LevelReason(StrEnum):
    """Why a level was paged."""

    RELEASED = "released"
    DEADLINE_PASSED = "deadline_passed"
    REPEATED = "repeated"
    CARRIED_OVER = "carried_over"
    RAISED_BY_HAND = "raised_by_hand"
    WRONG_PERSON = "wrong_person"
    POSITION_REMINDER = "position_reminder"
    POSITION_MISSED = "position_missed"
    PARTNER_UNREACHED = "partner_unreached"
    TAKEOVER_REPEATED = "takeover_repeated"


class Gap(StrEnum):
    """What was missing when a level was reached. A gap never delays: the next level is paged at once."""

    EMPTY_LEVEL = "empty_level"
    ALL_LEVELS_EMPTY = "all_levels_empty"
    NO_DUTY_PLAN = "no_duty_plan"
    DUTY_PLAN_EXPIRED = "duty_plan_expired"
    DUTY_PLAN_UNREADABLE = "duty_plan_unreadable"
    NO_REACHABLE_POINT = "no_reachable_point"


class PositionStance(StrEnum):
    """A partner's substantive answer. `wrong_person` is no stance of the partner but sends the question on."""

    CONSIDERING = "considering"
    COMMITTED = "committed"
    DECLINED = "declined"
    NOTED = "noted"
    WRONG_PERSON = "wrong_person"
