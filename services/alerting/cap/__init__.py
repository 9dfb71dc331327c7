"""The Common Alerting Protocol, OASIS CAP 1.2, as this network speaks it: XML bytes in and out, plain values between.

The cast: `safe_xml` reads XML from strangers; `reading` (`parse`) is strict against the standard; `profile`
(`check_profile`) says where a message leaves our profile; `alerts` turns what passes both into the material of a
draft (`to_draft`), and an alert of ours into a message (`from_source`); `writing` (`render`) makes XML of that.
Everything here is pure: no clock, no file, no network.
"""

from services.alerting.cap.alerts import CapDraft, CapSource, from_source, to_draft
from services.alerting.cap.message import (
    MEDIA_TYPE,
    NAMESPACE,
    CapArea,
    CapInfo,
    CapMessage,
    Reference,
    Resource,
    Scope,
)
from services.alerting.cap.profile import COUNTRY_GEOCODE, PROFILE, Country, check_profile, country
from services.alerting.cap.reading import parse
from services.alerting.cap.safe_xml import DOCUMENT_BYTES_MAX
from services.alerting.cap.writing import render

__all__ = [
    "COUNTRY_GEOCODE",
    "DOCUMENT_BYTES_MAX",
    "MEDIA_TYPE",
    "NAMESPACE",
    "PROFILE",
    "CapArea",
    "CapDraft",
    "CapInfo",
    "CapMessage",
    "CapSource",
    "Country",
    "Reference",
    "Resource",
    "Scope",
    "check_profile",
    "country",
    "from_source",
    "parse",
    "render",
    "to_draft",
]
