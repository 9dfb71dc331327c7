"""What HTTP is sent about calendars and shows of them.

The promise: an unknown field is refused. An address of a subscription is shown by its host alone, because the rest of
it opens the calendar to whoever knows it; and a private address of ours is shown once, when it is made.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.roster.calendars.handlers import Draft, Edit, Outcome
from services.roster.calendars.linking import MadeLink
from services.roster.calendars.mapping import MATCH_CHARACTERS_MAX, RULES_MAX, Rule, rule_of
from services.roster.calendars.model import BYTES_MAX, NAME_CHARACTERS_MAX
from services.roster.calendars.store import StoredCalendar, StoredLink
from services.roster.checks import text_faults
from services.roster.rota_views import PreviewView, preview_view
from shared.egress import URL_LENGTH_MAX
from shared.errors import FieldError, Invalid
from shared.web import UtcDateTime

SHIFTS_SHOWN_MAX = 500


def _one_line(name: str) -> str:
    for fault in text_faults("name", name, NAME_CHARACTERS_MAX):
        raise ValueError(fault.detail)
    return name


Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=NAME_CHARACTERS_MAX,
        pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$",
        examples=["Duty calendar of the ministry"],
    ),
    AfterValidator(_one_line),
]
Text = Annotated[
    str,
    Field(max_length=BYTES_MAX, description="The text of an iCalendar file.", examples=["BEGIN:VCALENDAR\r\n…"]),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RuleBody(_Body):
    """What a text in the calendar means: a part of a summary, as it stands between dashes or colons, or an e-mail
    address. Capitals make no difference.
    """

    match: Annotated[str, Field(min_length=1, max_length=MATCH_CHARACTERS_MAX, pattern=r"\S", examples=["Ann E."])]
    contact_id: UUID


Rules = Annotated[list[RuleBody], Field(max_length=RULES_MAX)]


class CalendarBody(_Body):
    """A calendar to import: the `text` of a file, or the `url` of a subscription."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Duty calendar of the ministry",
                    "url": "https://calendar.ministry.example/duty/a-private-address.ics",
                    "mapping": [{"match": "Ann E.", "contact_id": "02285a3d-4361-589f-94d9-072bf8229688"}],
                }
            ]
        },
    )

    name: Name
    text: Text | None = None
    url: Annotated[str, Field(max_length=URL_LENGTH_MAX)] | None = Field(
        default=None, description="Where it is fetched every hour; https, or webcal as calendar programs show it."
    )
    mapping: Rules = Field(default_factory=list, description="What names alone do not tell.")

    def draft(self, url: str | None) -> Draft:
        """What is imported; `url` as it was checked."""
        if (self.text is None) == (self.url is None):
            fault = FieldError("text", "give either the text of a file or a url, and not both")
            raise Invalid("A calendar is a file or a subscription.", errors=[fault])
        content = None if self.text is None else _bytes_of(self.text)
        return Draft(self.name.strip(), _rules(self.mapping), content, url)


class CalendarEdit(_Body):
    """What is to be replaced; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"mapping": [{"match": "Ann E.", "contact_id": "02285a3d-4361-589f-94d9-072bf8229688"}]}]
        },
    )

    name: Name | None = None
    mapping: Rules | None = None
    text: Text | None = Field(default=None, description="A newer file in the place of the old one.")

    def edit(self) -> Edit:
        """What is replaced."""
        return Edit(
            None if self.name is None else self.name.strip(),
            None if self.mapping is None else _rules(self.mapping),
            None if self.text is None else _bytes_of(self.text),
        )


def _rules(bodies: list[RuleBody]) -> tuple[Rule, ...]:
    return tuple(rule_of(one.match, one.contact_id) for one in bodies)


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


class RuleView(BaseModel):
    """What a text in the calendar means."""

    match: str
    contact_id: UUID


class UnmappedView(BaseModel):
    """Events of one summary that are nobody's: `unknown_person`, or `ambiguous` if they name two people, or one and
    begin at the same instant as another person's.
    """

    summary: str = Field(examples=["On call - C. Unknown"])
    reason: str = Field(examples=["unknown_person"])
    count: int
    line: int = Field(description="Where the first of them stands in the calendar.")
    people: list[str] = Field(description="E-mail addresses that stand there.")


class FaultView(BaseModel):
    """What of the calendar could not be read or, by the code `two_at_once`, names two people for the same time."""

    line: int
    code: str = Field(examples=["unknown_time_zone"])
    detail: str


class ImportedShiftView(BaseModel):
    """One shift that a calendar brings."""

    contact_id: UUID
    start_at: UtcDateTime
    end_at: UtcDateTime


class CalendarView(BaseModel):
    """A calendar that is imported into a rota, and how it fares."""

    id: UUID
    rota_id: UUID
    name: str
    source: str = Field(description="`file` or `subscription`.", examples=["subscription"])
    url: str | None = Field(description="Of a subscription, its host alone.", examples=["https://calendar.example/…"])
    version: int
    mapping: list[RuleView]
    title: str | None = Field(description="What the calendar calls itself.")
    events: int = Field(description="Times that it names from a week back to 400 days ahead.")
    shifts: int = Field(description="Those of them that are somebody's.")
    unmapped_count: int = Field(description="Those that are nobody's.")
    unmapped: list[UnmappedView]
    stray_mapping: list[str] = Field(description="Texts of the mapping whose contact is gone.")
    faults: list[FaultView]
    faults_omitted: int
    notes: dict[str, int] = Field(
        description="How much was read in a certain way: `floating` times and `all_day` events in the rota's zone,"
        " `free` ones although they are marked so; what was left out as `cancelled` or `duplicate`; `repaired` lines.",
        examples=[{"all_day": 12}],
    )
    created_at: UtcDateTime
    fetched_at: UtcDateTime | None = Field(description="Of a subscription, when it last answered.")
    read_at: UtcDateTime | None = Field(description="When it was last read and mapped.")
    next_at: UtcDateTime = Field(description="When it is looked at again.")
    failing_since: UtcDateTime | None = Field(description="Its last shifts stay meanwhile.")
    reason: str | None = Field(description="Why it fails, as a code.", examples=["http_status"])
    detail: str | None = Field(description="Why it fails, in words.", examples=["HTTP 404"])
    brings: list[ImportedShiftView] | None = Field(
        default=None, description=f"With dry_run alone: the shifts that it would bring, the first {SHIFTS_SHOWN_MAX}."
    )
    preview: PreviewView | None = Field(default=None, description="With dry_run alone: what would change.")


class Calendars(BaseModel):
    """The calendars of a rota."""

    items: list[CalendarView]


def calendar_view(calendar: StoredCalendar) -> CalendarView:
    """A calendar for its owner."""
    findings = calendar.findings
    return CalendarView(
        id=calendar.id,
        rota_id=calendar.rota_id,
        name=calendar.name,
        source="file" if calendar.url is None else "subscription",
        url=masked_url(calendar.url),
        version=calendar.version,
        mapping=[RuleView(match=rule.match, contact_id=rule.contact_id) for rule in calendar.rules],
        title=findings.title,
        events=calendar.events,
        shifts=calendar.shifts,
        unmapped_count=calendar.unmapped,
        unmapped=[UnmappedView(**asdict(one)) for one in findings.unmapped],
        stray_mapping=list(findings.stray_rules),
        faults=[FaultView(**asdict(fault)) for fault in findings.faults],
        faults_omitted=findings.faults_omitted,
        notes=dict(findings.notes),
        created_at=calendar.created_at,
        fetched_at=calendar.fetched_at,
        read_at=calendar.read_at,
        next_at=calendar.next_at,
        failing_since=calendar.failing_since,
        reason=calendar.reason,
        detail=calendar.detail,
    )


def outcome_view(outcome: Outcome) -> CalendarView:
    """A calendar after what was done, or what it would do."""
    view = calendar_view(outcome.calendar)
    if outcome.preview is None:
        return view
    brings = [
        ImportedShiftView(contact_id=shift.contact_id, start_at=shift.start_at, end_at=shift.end_at)
        for shift in (outcome.shifts or ())[:SHIFTS_SHOWN_MAX]
    ]
    return view.model_copy(update={"brings": brings, "preview": preview_view(outcome.preview)})


def masked_url(url: str | None) -> str | None:
    """As much of an address as tells one's subscriptions apart, and opens none of them."""
    if url is None:
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…"


# --- private addresses ------------------------------------------------------------------------------------------------


class LinkBody(_Body):
    """A private address to make: for a rota, or for one contact's shifts; with neither, for your own."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    rota_id: UUID | None = None
    contact_id: UUID | None = None


class LinkView(BaseModel):
    """A private address under which calendar programs read a rota, or one contact's shifts, without signing in."""

    id: UUID
    rota_id: UUID | None
    contact_id: UUID | None
    made_by: str = Field(description="The client id of whoever made it.", examples=["ca-duty-officer"])
    made_at: UtcDateTime
    used_at: UtcDateTime | None = Field(description="When it was last read, to the hour.")
    revoked_at: UtcDateTime | None = None


class MadeLinkView(LinkView):
    """A new private address, for the only time that it is shown."""

    url: str = Field(examples=["https://redphone.example/v1/calendars/this-is-an-example.ics"])


class Links(BaseModel):
    """Private addresses that are open, the oldest first."""

    items: list[LinkView]


def link_view(link: StoredLink) -> LinkView:
    """A private address without what opens it."""
    return LinkView(
        id=link.id,
        rota_id=link.rota_id,
        contact_id=link.contact_id,
        made_by=link.made_by,
        made_at=link.made_at,
        used_at=link.used_at,
        revoked_at=link.revoked_at,
    )


def made_link_view(made: MadeLink, public_url: str) -> MadeLinkView:
    """A new private address with what opens it."""
    return MadeLinkView(**link_view(made.link).model_dump(), url=f"{public_url}/v1/calendars/{made.token}.ics")
