from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings

from services.alerting import cap
from services.alerting.cap import safe_xml
from services.alerting.cap.message import ERRORS_MAX
from services.alerting.cap.reading import AREAS_MAX, INFO_MAX, POINTS_MAX, SHAPES_MAX
from shared.contracts import Area, Category, CoverageGoal, Info, MsgType, Precedence, Severity, Status, Tlp
from shared.errors import FieldError, Invalid
from tests.support.cap_messages import example, messages

KABUL = example("kabul_2021_flash")
DERNA = example("derna_2023_update")
QUICKLY_SECONDS = 2.0
"""Refusing hostile XML takes milliseconds; an expanded entity bomb or a quadratic rule takes minutes."""


def refusal(document: bytes) -> Invalid:
    """What `parse` says against the document."""
    with pytest.raises(Invalid) as caught:
        cap.parse(document)
    return caught.value


def places(errors: list[FieldError] | tuple[FieldError, ...]) -> list[tuple[str, str]]:
    """Field and code of each mistake."""
    return [(error.field, error.code) for error in errors]


def edited(document: bytes, old: str, new: str, count: int = 1) -> bytes:
    """The document with `old` replaced; fails if there is nothing to replace."""
    text = document.decode()
    assert old in text
    return text.replace(old, new, count).encode()


def test_parse_reads_every_part_of_a_message() -> None:
    """All that the message says is in the values, polygons turned to longitude first, times in UTC."""
    message = cap.parse(KABUL)

    assert (message.identifier, message.sender) == ("RP-CA-2021-0007", "redphone@canada.example")
    assert message.sent == datetime(2021, 8, 15, 11, 0, tzinfo=UTC)
    assert message.sent.utcoffset() == timedelta(hours=4, minutes=30)
    assert (message.status, message.msg_type, message.scope) == (Status.ACTUAL, MsgType.ALERT, cap.Scope.PRIVATE)
    assert message.addresses == ("US", "GB", "AU", "NZ")
    assert message.codes == (cap.PROFILE,)
    assert message.incidents == ("Kabul airlift",)
    english, french = message.info
    assert english.language == "en-CA"
    assert english.categories == (Category.SECURITY, Category.RESCUE)
    assert english.onset == datetime(2021, 8, 14, 19, 30, tzinfo=UTC)
    assert ("aircraft", "C-17") in english.parameters
    assert english.areas[0].polygons[0][0] == (69.19, 34.55)
    assert english.areas[0].circles == ((69.2124, 34.5658, 5.0),)
    assert english.areas[0].geocodes == ((cap.COUNTRY_GEOCODE, "AFG"),)
    assert french.headline == "Kaboul est tombée ; des places sont nécessaires"


def test_parse_reads_resources_heights_and_references_under_any_prefix() -> None:
    """A namespace prefix changes nothing; resources are data, references keep the offset of their `sent`."""
    message = cap.parse(DERNA)

    assert message.references == (
        cap.Reference("redphone@italy.example", "RP-IT-2023-0011", datetime(2023, 9, 11, 17, 0, tzinfo=UTC)),
    )
    assert b"2023-09-11T19:00:00+02:00" in cap.render(message)
    info = message.info[0]
    assert info.language == "en-US"
    assert info.resources[0].size_bytes == 40960
    assert str(info.areas[0].ceiling_feet) == "150.5"


@pytest.mark.parametrize("name", ["kabul_2021_flash", "derna_2023_update", "exercise", "cancel"])
def test_our_examples_survive_the_round_trip_and_keep_the_profile(name: str) -> None:
    """Our own examples are in our profile, and reading what is rendered gives the same message."""
    message = cap.parse(example(name))

    assert cap.check_profile(message) == []
    assert cap.parse(cap.render(message)) == message


@settings(max_examples=200, deadline=None, derandomize=True)
@given(messages)
def test_reading_what_is_rendered_gives_the_same_message(message: cap.CapMessage) -> None:
    """`parse(render(message)) == message` for any message that the standard can say."""
    assert cap.parse(cap.render(message)) == message


def test_utc_is_written_minus_zero_and_other_offsets_are_kept() -> None:
    """CAP writes UTC as -00:00 and never as Z."""
    message = replace(cap.parse(KABUL), sent=datetime(2021, 8, 15, 11, 0, tzinfo=UTC))

    assert b"<sent>2021-08-15T11:00:00-00:00</sent>" in cap.render(message)
    local = replace(message, sent=message.sent.astimezone(timezone(timedelta(hours=-3, minutes=-30))))
    assert b"<sent>2021-08-15T07:30:00-03:30</sent>" in cap.render(local)


def test_text_that_xml_cannot_hold_is_refused_when_rendered() -> None:
    """A NUL in a text is no crash but a refusal."""
    with pytest.raises(Invalid) as caught:
        cap.render(replace(cap.parse(KABUL), note="a\x00b"))

    assert caught.value.code == "cap_invalid"


SENT = "2021-08-15T11:00:00-00:00"
MISTAKES = [
    ("<sender>redphone@canada.example</sender>", "", "alert/sender", "missing"),
    ("<status>Actual</status>", "<status> Actual</status>", "alert/status", "not_in_list"),
    ("<status>Actual</status>", "<status>actual</status>", "alert/status", "not_in_list"),
    ("<status>Actual</status>", "<status>Actual</status><status>Actual</status>", "alert/status", "too_many"),
    ("<scope>Private</scope>", "<scope>Secret</scope>", "alert/scope", "not_in_list"),
    ("<scope>Private</scope>", "<scope>Restricted</scope>", "alert/restriction", "missing"),
    ("<addresses>US GB AU NZ</addresses>", "", "alert/addresses", "missing"),
    ("<addresses>US GB AU NZ</addresses>", '<addresses>"US GB</addresses>', "alert/addresses", "wrong_list"),
    ("<msgType>Alert</msgType>", "<msgType>Update</msgType>", "alert/references", "missing"),
    ("<msgType>Alert</msgType>", "<msgType>Cancel</msgType>", "alert/references", "missing"),
    ("<msgType>Alert</msgType>", "<msgType>Ack</msgType>", "alert/references", "missing"),
    ("<msgType>Alert</msgType>", "<msgType>Error</msgType>", "alert/references", "missing"),
    ("<identifier>RP-CA-2021-0007<", "<identifier>RP CA<", "alert/identifier", "wrong_name"),
    ("<identifier>RP-CA-2021-0007<", "<identifier>RP,CA<", "alert/identifier", "wrong_name"),
    ("<identifier>RP-CA-2021-0007<", "<identifier>RP&lt;CA<", "alert/identifier", "wrong_name"),
    ("<identifier>RP-CA-2021-0007<", "<identifier>RP&amp;CA<", "alert/identifier", "wrong_name"),
    ("<identifier>RP-CA-2021-0007<", "<identifier><", "alert/identifier", "wrong_name"),
    ("2021-08-15T15:30:00+04:30", "2021-08-15T11:00:00Z", "alert/sent", "wrong_time"),
    ("2021-08-15T15:30:00+04:30", "2021-08-15T11:00:00", "alert/sent", "wrong_time"),
    ("2021-08-15T15:30:00+04:30", "2021-08-15T11:00:00.5-00:00", "alert/sent", "wrong_time"),
    ("2021-08-15T15:30:00+04:30", "2021-02-30T11:00:00-00:00", "alert/sent", "wrong_time"),
    ("2021-08-15T15:30:00+04:30", "2021-08-15T11:00:00+14:30", "alert/sent", "wrong_time"),
    ("2021-08-15T15:30:00+04:30", "0001-01-01T00:00:00+14:00", "alert/sent", "wrong_time"),
    ("<incidents>", "<references>a,b</references><incidents>", "alert/references", "wrong_reference"),
    ("<incidents>", "<references>a,b,2021Z</references><incidents>", "alert/references", "wrong_reference"),
    ("<incidents>", f"<references>a,b,{SENT},d</references><incidents>", "alert/references", "wrong_reference"),
    ("<incidents>", "<note>n</note><note>n</note><incidents>", "alert/note", "too_many"),
    ("<language>en-CA</language>", "<language>english language</language>", "alert/info[1]/language", "wrong_language"),
    ("<category>Rescue</category>", "<category>rescue</category>", "alert/info[1]/category[2]", "not_in_list"),
    ("<event>Collapse of government</event>", "<event> </event>", "alert/info[1]/event", "empty"),
    ("<severity>Extreme</severity>", "<severity/>", "alert/info[1]/severity", "not_in_list"),
    ("<urgency>Immediate</urgency>", "", "alert/info[1]/urgency", "missing"),
    ("<senderName>", "<web>relative</web><senderName>", "alert/info[1]/senderName", "wrong_order"),
    ("<parameter>", "<web>relative/page</web><parameter>", "alert/info[1]/web", "wrong_uri"),
    ("<parameter>", "<web>https://a b</web><parameter>", "alert/info[1]/web", "wrong_uri"),
    ("<valueName>aircraft</valueName>", "", "alert/info[1]/parameter[5]/valueName", "missing"),
    ("<areaDesc>Kabul airport</areaDesc>", "", "alert/info[1]/area[1]/areaDesc", "missing"),
    ("34.58,69.19 34.55,69.19<", "34.58,69.19<", "alert/info[1]/area[1]/polygon[1]", "wrong_polygon"),
    ("34.58,69.24 34.58,69.19 34.55,69.19<", "34.55,69.19<", "alert/info[1]/area[1]/polygon[1]", "wrong_polygon"),
    ("34.55,69.24", "134.55,69.24", "alert/info[1]/area[1]/polygon[1]", "wrong_polygon"),
    ("34.55,69.24", "34.55;69.24", "alert/info[1]/area[1]/polygon[1]", "wrong_polygon"),
    ("34.55,69.24", "34.55,NaN", "alert/info[1]/area[1]/polygon[1]", "wrong_polygon"),
    ("34.55,69.24", "34.55,٦٩", "alert/info[1]/area[1]/polygon[1]", "wrong_polygon"),
    ("34.5658,69.2124 5<", "34.5658,69.2124<", "alert/info[1]/area[1]/circle[1]", "wrong_circle"),
    ("34.5658,69.2124 5<", "34.5658,69.2124 -5<", "alert/info[1]/area[1]/circle[1]", "wrong_circle"),
    ("34.5658,69.2124 5<", "34.5658 69.2124 5<", "alert/info[1]/area[1]/circle[1]", "wrong_circle"),
    ("</geocode>", "</geocode><ceiling>5</ceiling>", "alert/info[1]/area[1]/ceiling", "missing"),
    ("</geocode>", "</geocode><altitude>1e3</altitude>", "alert/info[1]/area[1]/altitude", "wrong_number"),
    ("<alert ", '<alert id="1" ', "alert", "unexpected_attribute"),
    ("<scope>", '<scope x="1">', "alert/scope", "unexpected_attribute"),
    ("<scope>Private", "<scope>Private<b/>", "alert/scope", "unexpected_element"),
    ("<scope>", "<priority>1</priority><scope>", "alert", "unexpected_element"),
    ("<scope>", "<x:scope xmlns:x='urn:other'>Public</x:scope><scope>", "alert", "unexpected_element"),
    ("<scope>", "<scope xmlns=''>Public</scope><scope>", "alert", "unexpected_element"),
    ("<scope>", "text<scope>", "alert", "unexpected_text"),
    ("<scope>", "<?php x?><scope>", "document", "processing_instruction"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "field", "code"), MISTAKES)
def test_each_mistake_is_named_with_its_place(old: str, new: str, field: str, code: str) -> None:
    """One mistake in a good message is refused as `cap_invalid`, at its own path, with its own code."""
    error = refusal(edited(KABUL, old, new))

    assert error.code == "cap_invalid"
    assert (field, code) in places(error.errors)
    assert all(mistake.detail for mistake in error.errors)


def test_all_mistakes_are_reported_at_once() -> None:
    """Four mistakes in four places are four errors, those of prose among them."""
    document = edited(KABUL, "<status>Actual", "<status>Real")
    document = edited(document, "<addresses>US GB AU NZ</addresses>", "")
    document = edited(document, "<urgency>Immediate</urgency>", "<urgency>Now</urgency>", count=2)

    assert places(refusal(document).errors) == [
        ("alert/status", "not_in_list"),
        ("alert/info[1]/urgency", "not_in_list"),
        ("alert/info[2]/urgency", "not_in_list"),
        ("alert/addresses", "missing"),
    ]


def test_the_list_of_mistakes_is_bounded() -> None:
    """Thousands of wrong elements are reported up to the limit."""
    document = edited(KABUL, "<info>", "<code x='1'>a</code>" * 1000 + "<info>")

    assert len(refusal(document).errors) == ERRORS_MAX


@pytest.mark.parametrize("language", ["<language/>", "<language></language>", ""])
def test_a_language_that_is_not_given_is_american_english(language: str) -> None:
    """The standard's default holds for an absent and for an empty element."""
    document = edited(KABUL, "<language>en-CA</language>", language)

    assert cap.parse(document).info[0].language == "en-US"


def test_empty_optional_elements_say_nothing() -> None:
    """`<note/>` is the same as no note, as senders in the wild write it."""
    document = edited(KABUL, "<incidents>", "<note/><references> </references><incidents>")

    assert cap.parse(document) == cap.parse(KABUL)


def test_white_space_around_times_and_comments_inside_texts_change_nothing() -> None:
    """A time may stand on a line of its own; a comment is no text."""
    document = edited(KABUL, "2021-08-15T15:30:00+04:30", "\n 2021-08-15T15:30:00+04:30 <!-- local -->\n")

    assert cap.parse(document) == cap.parse(KABUL)


def test_a_hint_at_a_schema_is_allowed_and_never_followed() -> None:
    """`xsi:schemaLocation` on the root is valid XML Schema usage and without effect."""
    hint = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a http://127.0.0.1:9/a.xsd"'

    assert cap.parse(edited(KABUL, "<alert ", f"<alert {hint} ")) == cap.parse(KABUL)


def test_signatures_are_counted_ignored_and_left_out_of_the_draft() -> None:
    """An XML signature at the end changes nothing, and the draft says that it was left out."""
    signature = '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo/></Signature>'
    message = cap.parse(edited(KABUL, "</alert>", f"{signature}{signature}</alert>"))

    assert message.signatures == 2
    assert message == cap.parse(KABUL)
    assert cap.to_draft(message).left_out == ("alert/Signature",)


def test_a_message_hidden_in_a_signature_is_refused() -> None:
    """CAP elements inside a signature are a wrapping attack, a signature before the end is no CAP."""
    hidden = f'<S xmlns="http://www.w3.org/2000/09/xmldsig#"><alert xmlns="{cap.NAMESPACE}"/></S>'

    assert places(refusal(edited(KABUL, "</alert>", f"{hidden}</alert>")).errors) == [
        ("alert/Signature", "unexpected_element")
    ]
    early = '<S xmlns="http://www.w3.org/2000/09/xmldsig#"/>'
    assert ("alert", "unexpected_element") in places(refusal(edited(KABUL, "<info>", f"{early}<info>")).errors)


@pytest.mark.parametrize(
    ("namespace", "code"),
    [
        ("urn:oasis:names:tc:emergency:cap:1.1", "older_version"),
        ("http://www.incident.com/cap/1.0", "older_version"),
        ("urn:oasis:names:tc:emergency:cap:1.3", "wrong_root"),
        ("", "wrong_root"),
    ],
)
def test_only_cap_1_2_is_read(namespace: str, code: str) -> None:
    """An older CAP is refused with a message that names the version; anything else as no CAP at all."""
    error = refusal(edited(KABUL, cap.NAMESPACE, namespace))

    assert places(error.errors) == [("alert", code)]
    assert cap.NAMESPACE in error.errors[0].detail


# --- hostile documents ------------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """Ten entities of ten each: a billion laughs."""
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    return f'<!DOCTYPE a [<!ENTITY l0 "lol">{entities}]><alert>&l9;</alert>'.encode()


def many(element: str, count: int) -> bytes:
    """Kabul with an element repeated in its first area."""
    return edited(KABUL, "<circle>", element * count + "<circle>")


HOSTILE = {
    "billion laughs": (bomb(), "doctype"),
    "external entity": (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><alert>&x;</alert>', "doctype"),
    "external document type": (b'<!DOCTYPE alert SYSTEM "http://127.0.0.1:9/a.dtd"><alert/>', "doctype"),
    "public document type": (b'<!DOCTYPE alert PUBLIC "-//A" "http://127.0.0.1:9/a.dtd"><alert/>', "doctype"),
    "parameter entity": (b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]><alert/>', "doctype"),
    "bare document type": (b"<!DOCTYPE alert><alert/>", "doctype"),
    "undeclared entity": (edited(KABUL, "Kabul airport", "&nbsp;"), "not_well_formed"),
    "deep nesting": (b"<alert>" * 30_000, "too_deep"),
    "deep nesting closed": (b"<a>" * 25 + b"</a>" * 25, "too_deep"),
    "many elements": (b"<alert>" + b"<a/>" * 20_000 + b"</alert>", "too_many_elements"),
    "ten megabytes": (edited(KABUL, "Kabul airport", "A" * 10_000_000), "too_large"),
    "UTF-16 with mark": (KABUL.decode().replace("UTF-8", "UTF-16").encode("utf-16"), "encoding"),
    "UTF-16 without mark": (KABUL.decode().encode("utf-16-le"), "encoding"),
    "UTF-32": (KABUL.decode().encode("utf-32"), "encoding"),
    "UTF-7 declared": (edited(KABUL, "UTF-8", "UTF-7"), "encoding"),
    "UTF-7 hiding a document type": (b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE a>', "encoding"),
    "EBCDIC declared": (edited(KABUL, "UTF-8", "cp037"), "encoding"),
    "declared and marked differently": (b"\xef\xbb\xbf" + edited(KABUL, "UTF-8", "ISO-8859-1"), "encoding"),
    "NUL": (edited(KABUL, "Kabul airport", "a\x00b"), "encoding"),
    "not UTF-8": (KABUL.replace(b"Kabul airport", b"\xff\xfe"), "encoding"),
    "overlong UTF-8": (KABUL.replace(b"Kabul airport", b"\xc0\xbcscript"), "encoding"),
    "lone surrogate": (KABUL.replace(b"Kabul airport", b"\xed\xa0\x80"), "encoding"),
    "not ASCII": (edited(KABUL, "UTF-8", "US-ASCII"), "encoding"),
    "control character": (edited(KABUL, "Kabul airport", "\x0b"), "not_well_formed"),
    "control character by number": (edited(KABUL, "Kabul airport", "&#0;"), "not_well_formed"),
    "XML 1.1": (edited(KABUL, 'version="1.0"', 'version="1.1"'), "not_well_formed"),
    "second declaration": (b" " + KABUL, "not_well_formed"),
    "undeclared prefix": (edited(KABUL, "<scope>Private</scope>", "<x:scope>Private</x:scope>"), "not_well_formed"),
    "duplicate attribute": (edited(KABUL, "<scope>", '<scope a="1" a="2">'), "not_well_formed"),
    "cut off": (KABUL[:900], "not_well_formed"),
    "two roots": (KABUL + b"<alert/>", "not_well_formed"),
    "nothing": (b"", "not_well_formed"),
    "JSON": (b'{"headline": "Kabul"}', "not_well_formed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xml_is_refused_quickly(name: str) -> None:
    """What must not be read is refused as `cap_unsafe` with its reason, before it can cost anything."""
    document, code = HOSTILE[name]
    begun = time.perf_counter()
    error = refusal(document)

    assert time.perf_counter() - begun < QUICKLY_SECONDS
    assert error.code == "cap_unsafe"
    assert [mistake.code for mistake in error.errors] == [code]


AREA = "<area><areaDesc>a</areaDesc></area>"
CROWDED = {
    "polygons": (many("<polygon>0,0 0,1 1,1 0,0</polygon>", SHAPES_MAX), "alert/info[1]/area[1]"),
    "polygons by the thousand": (many("<polygon>0,0 0,1 1,1 0,0</polygon>", 5000), "alert/info[1]/area[1]/polygon"),
    "corners": (many(f"<polygon>0,0 {'0,1 ' * POINTS_MAX} 0,0</polygon>", 1), "alert/info[1]/area[1]"),
    "areas": (edited(KABUL, "<area>", AREA * AREAS_MAX + "<area>"), "alert/info[1]/area"),
    "info blocks": (edited(KABUL, "<info>", "<info/>" * INFO_MAX + "<info>"), "alert/info"),
}  # fmt: skip


@pytest.mark.parametrize("name", CROWDED)
def test_more_than_a_message_needs_is_refused_quickly(name: str) -> None:
    """Counts are bounded one by one, within the bound on bytes and elements."""
    document, field = CROWDED[name]
    begun = time.perf_counter()
    error = refusal(document)

    assert time.perf_counter() - begun < QUICKLY_SECONDS
    assert (field, "too_many") in places(error.errors)


def test_the_limits_themselves_are_allowed() -> None:
    """A document of exactly the greatest size, and an element at exactly the greatest depth, are read."""
    room = safe_xml.DOCUMENT_BYTES_MAX - len(KABUL)
    largest = cap.parse(edited(KABUL, "Kabul airport", "Kabul airport" + "A" * room))
    assert len(largest.info[0].areas[0].description) > room
    assert places(refusal(KABUL + b" " * (room + 1)).errors) == [("document", "too_large")]

    deep = b"<a>" * safe_xml.DEPTH_MAX + b"</a>" * safe_xml.DEPTH_MAX
    assert safe_xml.read(deep).root.name == "a"
    assert safe_xml.read(b"<a>" + b"<b/>" * (safe_xml.ELEMENTS_MAX - 1) + b"</a>").root.name == "a"


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "latin1", "utf-8", "UTF8"])
def test_known_encodings_are_read(encoding: str) -> None:
    """The same text in each encoding that we read gives the same message."""
    document = KABUL.decode().replace("UTF-8", encoding).encode(encoding)

    assert cap.parse(document) == cap.parse(KABUL)


def test_markup_inside_a_character_section_is_plain_text() -> None:
    """`<!DOCTYPE` in CDATA is text for people and no document type."""
    document = edited(KABUL, "Kabul airport", "<![CDATA[<!DOCTYPE a> & <b>]]>")

    assert cap.parse(document).info[0].areas[0].description == "<!DOCTYPE a> & <b>"


# --- our profile ------------------------------------------------------------------------------------------------------

FLASH = "<value>FLASH</value>"
UNEXPECTED = "unexpected_references"
OUTSIDE = [
    ("urn:redphone:cap:profile:1.0", "urn:redphone:cap:profile:9.0", 1, "alert/code", "wrong_profile"),
    ("<scope>Private", "<scope>Public", 1, "alert/scope", "not_in_list"),
    ("US GB AU NZ", "US ops@gb.example", 1, "alert/addresses", "wrong_partner"),
    ("US GB AU NZ", "US GB US", 1, "alert/addresses", "repeated"),
    ("US GB AU NZ", "US EU", 1, "alert/info[1]/parameter[4]/value", "repeated"),
    ("<incidents>", f"<references>a,b,{SENT}</references><incidents>", 1, "alert/references", UNEXPECTED),
    ("<status>Actual", "<status>Exercise", 1, "alert/note", "missing"),
    ("<expires>2021-08-17T00:00:00-00:00</expires>", "", 1, "alert/info[1]/expires", "missing"),
    ("<expires>2021-08-17", "<expires>2021-08-15", 1, "alert/info[1]/expires", "wrong_time"),
    ("<language>en-CA", "<language>es", 1, "alert/info", "missing"),
    ("<severity>Extreme", "<severity>Severe", 1, "alert/info[2]/severity", "differs"),
    ("<urgency>Immediate", "<urgency>Future", 1, "alert/info[2]/urgency", "differs"),
    ("<certainty>Observed", "<certainty>Likely", 1, "alert/info[2]/certainty", "differs"),
    ("<value>AFG", "<value>AFX", 1, "alert/info[1]/area[1]/geocode[1]/value", "wrong_country"),
    ("<value>AFG", "<value>AF", 1, "alert/info[1]/area[1]/geocode[1]/value", "wrong_country"),
    ("<valueName>iso3166-1-alpha-3", "<valueName>un-m49", 2, "alert/info[1]/area[1]/geocode", "missing"),
    ("rdn:precedence", "precedence", 1, "alert/info[1]/parameter", "missing"),
    ("rdn:precedence", "rdn:speed", 1, "alert/info[1]/parameter[1]/valueName", "not_in_list"),
    (FLASH, "<value>URGENT</value>", 2, "alert/info[1]/parameter[1]/value", "not_in_list"),
    (FLASH, "<value>PRIORITY</value>", 1, "alert/info[2]/parameter", "differs"),
    ("TLP:AMBER", "TLP:WHITE", 2, "alert/info[1]/parameter[2]/value", "not_in_list"),
    ("TLP:AMBER", "TLP:GREEN", 1, "alert/info[2]/parameter", "differs"),
    ("2021-08-15T11:10:00-00:00", "2021-08-15T11:10:00Z", 2, "alert/info[1]/parameter[3]/value", "wrong_time"),
    ("2021-08-15T11:10:00-00:00", "2021-08-15T11:00:00-00:00", 2, "alert/info[1]/parameter[3]/value", "wrong_time"),
    ("2021-08-15T11:10:00-00:00", "2021-08-18T11:10:00-00:00", 2, "alert/info[1]/parameter[3]/value", "wrong_time"),
    ("EU XR", "EU everyone", 2, "alert/info[1]/parameter[4]/value", "wrong_partner"),
    ("<value>true", "<value>yes", 1, "alert/info[2]/parameter[5]/value", "not_in_list"),
    ("<valueName>aircraft", "<valueName>rdn:tlp", 1, "alert/info[1]/parameter[2]", "repeated"),
    ("<parameter>", "<web>javascript:alert(1)</web><parameter>", 1, "alert/info[1]/web", "wrong_uri"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "count", "field", "code"), OUTSIDE)
def test_what_leaves_our_profile_is_valid_cap_and_drafts_nothing(
    old: str, new: str, count: int, field: str, code: str
) -> None:
    """Each rule of the profile is a restriction: the standard allows the message, the profile names place and rule."""
    message = cap.parse(edited(KABUL, old, new, count))

    assert (field, code) in places(cap.check_profile(message))
    with pytest.raises(Invalid) as caught:
        cap.to_draft(message)
    assert caught.value.code == "cap_profile"
    assert (field, code) in places(caught.value.errors)


def test_a_cancel_needs_a_note() -> None:
    """Whoever was paged is told why."""
    message = replace(cap.parse(example("cancel")), note=None)

    assert places(cap.check_profile(message)) == [("alert/note", "missing")]


def test_a_message_without_info_is_outside_of_the_profile_only() -> None:
    """The standard allows it, the profile asks for English."""
    text = KABUL.decode()
    message = cap.parse((text[: text.index("<info>")] + "</alert>").encode())

    assert places(cap.check_profile(message)) == [("alert/info", "missing")]


@pytest.mark.parametrize("msg_type", [MsgType.ACK, MsgType.ERROR])
def test_acknowledgements_and_errors_draft_nothing(msg_type: MsgType) -> None:
    """An answer is given by a named human, never by a message."""
    message = replace(cap.parse(DERNA), msg_type=msg_type)

    assert cap.check_profile(message) == []
    with pytest.raises(Invalid) as caught:
        cap.to_draft(message)
    assert places(caught.value.errors) == [("alert/msgType", "not_draftable")]


# --- drafts and sources -----------------------------------------------------------------------------------------------


def test_a_draft_has_all_that_the_alert_needs() -> None:
    """Audience, speed, handling, deadlines and texts come from the message; our parameters do not stay in the texts."""
    draft = cap.to_draft(cap.parse(KABUL))

    assert draft.headline == "Kabul has fallen; seats needed for people at risk"
    assert draft.countries == (cap.Country("AF", "AFG"),)
    assert (draft.to, draft.for_information) == (("US", "GB", "AU", "NZ"), ("EU", "XR"))
    assert (draft.precedence, draft.tlp) == (Precedence.FLASH, Tlp.AMBER)
    assert draft.acknowledge_within_seconds == 600
    assert draft.sent_at == datetime(2021, 8, 15, 11, 0, tzinfo=UTC)
    assert draft.expires_at == datetime(2021, 8, 17, tzinfo=UTC)
    assert [type(info) for info in draft.info] == [Info, Info]
    assert [info.is_translation for info in draft.info] == [False, True]
    assert draft.info[0].parameters == (("aircraft", "C-17"),)
    assert type(draft.info[0].areas[0]) is Area
    assert draft.left_out == ()


def test_a_draft_has_defaults_and_names_what_it_leaves_out() -> None:
    """Handling is AMBER, the headline the event, and elements without a place in an alert are named."""
    draft = cap.to_draft(cap.parse(DERNA))

    assert draft.tlp is Tlp.AMBER
    assert draft.acknowledge_within_seconds is None
    assert draft.headline == draft.info[0].headline == "Flood after dam failure"
    assert draft.references[0].identifier == "RP-IT-2023-0011"
    assert draft.left_out == (
        "alert/source",
        "alert/info[1]/effective",
        "alert/info[1]/resource",
        "alert/info[1]/area[1]/altitude",
    )


def test_an_alert_expires_when_its_last_language_does() -> None:
    """An alert must not end in one language while it stands in another."""
    later = edited(KABUL, "<expires>2021-08-17", "<expires>2021-08-18")

    assert cap.to_draft(cap.parse(later)).expires_at == datetime(2021, 8, 18, tzinfo=UTC)


def source(**changes: object) -> cap.CapSource:
    """An alert of ours, complete, with the given changes."""
    given: dict[str, object] = {
        "identifier": "RP-CA-2023-0042",
        "sender": "redphone@canada.example",
        "sent_at": datetime(2023, 4, 15, 9, 0, 0, 700_000, tzinfo=UTC),
        "status": Status.ACTUAL,
        "msg_type": MsgType.ALERT,
        "to": ("US", "GB"),
        "for_information": ("XR",),
        "precedence": Precedence.IMMEDIATE,
        "tlp": Tlp.AMBER_STRICT,
        "acknowledge_by_at": datetime(2023, 4, 15, 9, 30, 0, 700_000, tzinfo=UTC),
        "expires_at": datetime(2023, 4, 17, tzinfo=UTC),
        "countries": ("SD", "TCD"),
        "incidents": ("Khartoum  fighting",),
        "info": (
            Info(
                event="Fighting in Khartoum",
                headline="Convoy to Port Sudan\x00",
                severity=Severity.EXTREME,
                parameters=(("rdn:tlp", "TLP:CLEAR"), ("seats", "40")),
                areas=(
                    Area(
                        description="Khartoum",
                        polygons=(((32.5, 15.5), (32.6, 15.5), (1e-300, 15.6), (32.5, 15.5)),),
                        geocodes=((cap.COUNTRY_GEOCODE, "SDN"),),
                    ),
                ),
            ),
            Info(language="ar", event="قتال", headline="قافلة", severity=Severity.EXTREME, is_translation=True),
        ),
    }
    return cap.CapSource(**{**given, **changes})  # type: ignore[arg-type]


def test_an_alert_of_ours_becomes_a_message_and_a_draft_again() -> None:
    """What goes out as CAP comes in with the same meaning."""
    message = cap.parse(cap.render(cap.from_source(source())))
    draft = cap.to_draft(message)

    assert cap.check_profile(message) == []
    assert message.codes == (cap.PROFILE,)
    assert message.incidents == ("Khartoum fighting",)
    assert (draft.to, draft.for_information) == (("US", "GB"), ("XR",))
    assert (draft.precedence, draft.tlp) == (Precedence.IMMEDIATE, Tlp.AMBER_STRICT)
    assert draft.acknowledge_within_seconds == 1800
    assert draft.expires_at == datetime(2023, 4, 17, tzinfo=UTC)
    assert [country.alpha_3 for country in draft.countries] == ["SDN", "TCD"]
    assert draft.headline == "Convoy to Port Sudan\ufffd"
    assert [info.is_translation for info in draft.info] == [False, True]
    assert draft.info[0].parameters == (("seats", "40"),)
    assert draft.info[0].areas[0].polygons[0][2] == (0.0, 15.6)
    assert draft.left_out == ()


def test_a_coverage_goal_travels_as_a_parameter() -> None:
    """It stands in every block as how many within how many seconds, and comes back as it was."""
    goal = CoverageGoal(partners=8, within_seconds=900)
    document = cap.render(cap.from_source(source(coverage_goal=goal)))
    assert document.count(b"<value>8/900</value>") == len(source().info)
    assert cap.to_draft(cap.parse(document)).coverage_goal == goal
    assert cap.to_draft(cap.parse(cap.render(cap.from_source(source())))).coverage_goal is None


@pytest.mark.parametrize("value", ["8", "0/900", "8/0", "8/900s", "-8/900", "8/900/1", "99999/900", "8/999999999"])
def test_a_coverage_goal_that_says_nothing_is_named(value: str) -> None:
    """What is no goal is refused with its place."""
    goal = CoverageGoal(partners=8, within_seconds=900)
    document = cap.render(cap.from_source(source(coverage_goal=goal))).replace(b"8/900", value.encode())
    wrong = cap.check_profile(cap.parse(document))
    assert {error.code for error in wrong} == {"wrong_goal"}
    assert "8/900" in wrong[0].detail


def test_countries_that_no_area_names_become_areas() -> None:
    """Every language's block names every country, once."""
    english, arabic = cap.from_source(source()).info

    assert [area.description for area in english.areas] == ["Khartoum", "Chad"]
    assert [area.geocodes[0][1] for area in arabic.areas] == ["SDN", "TCD"]


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"status": Status.EXERCISE}, "alert/note", "missing"),
        ({"msg_type": MsgType.UPDATE}, "alert/references", "missing"),
        ({"to": ()}, "alert/addresses", "missing"),
        ({"countries": ("SD", "XX")}, "alert/info[1]/area[2]/geocode[1]/value", "wrong_country"),
        ({"info": ()}, "alert/info", "missing"),
    ],
)
def test_an_alert_that_our_profile_cannot_say_is_refused(changes: dict[str, object], field: str, code: str) -> None:
    """No message claims our profile and breaks it."""
    with pytest.raises(Invalid) as caught:
        cap.from_source(source(**changes))

    assert caught.value.code == "cap_profile"
    assert (field, code) in places(caught.value.errors)


def test_a_sender_that_the_standard_cannot_hold_is_refused_when_rendered() -> None:
    """What others would have to refuse never leaves."""
    with pytest.raises(Invalid) as caught:
        cap.render(cap.from_source(source(sender="duty desk")))

    assert places(caught.value.errors) == [("alert/sender", "wrong_name")]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AF", cap.Country("AF", "AFG")),
        ("AFG", cap.Country("AF", "AFG")),
        ("afg", None),
        ("XKX", None),
        ("EU", None),
        ("", None),
        ("AFGH", None),
    ],
)
def test_countries_are_known_by_either_code(code: str, expected: cap.Country | None) -> None:
    """Two and three capital letters of ISO 3166-1, and nothing else."""
    assert cap.country(code) == expected
