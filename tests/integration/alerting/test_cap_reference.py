from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from services.alerting import cap
from shared.errors import Invalid
from tests.support.cap_messages import EXAMPLES, messages

REPOSITORY = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
REFERENCE = REPOSITORY.parent / "shared" / "data"

pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(
        not (REFERENCE / "schemas" / "cap12.xsd").exists(),
        reason="the reference data (official CAP schema and real messages) does not lie beside the repository",
    ),
]

SPECIFICATION = [f"spec-examples/cap12_appendix_a{number}.xml" for number in (1, 2, 3, 4)]
REAL = [
    "real/au_nsw_rfs_2011_capau.cap.xml",
    "real/ca_ec_2013_signed_update_9refs.cap.xml",
    "real/ca_ec_bilingual_update.cap.xml",
    "real/us_usgs_2012_iso8859-1.cap.xml",
    "real/us_wcatwc_2011_tsunami_update.cap.xml",
    "real/us_wcatwc_2013_cancellation_as_update.cap.xml",
]
REFUSED = {
    "real/us_nws_2021_cap11.cap.xml": {"older_version", "processing_instruction"},
    "hostile/empty_enums_cap11.cap.xml": {"older_version", "processing_instruction"},
    "hostile/no_info_cap11.cap.xml": {"older_version", "processing_instruction"},
    "hostile/empty_references.cap.xml": {"missing"},
    "hostile/missing_scope.cap.xml": {"missing"},
    "hostile/xxe_entities.cap.xml": {"doctype", "processing_instruction"},
}

STRICTER = {
    "empty": "the standard asks for a meaning where the schema allows an empty string",
    "missing": "references, restriction, addresses and altitude are required by the standard's prose",
    "wrong_name": "no spaces, commas, < and & in identifier and sender",
    "wrong_reference": "references are sender,identifier,sent",
    "wrong_list": "addresses and incidents with spaces stand in double quotes",
    "wrong_polygon": "pairs in range, at least four, closed",
    "wrong_circle": "pair in range, and a radius",
    "wrong_number": "sizes are not negative, numbers not endless",
    "wrong_uri": "web is an absolute URI; other characters are percent-encoded",
    "wrong_time": "no 24:00:00, and no year that UTC cannot hold",
    "processing_instruction": "never followed, so never let in",
    "too_many": "bounded counts",
}
"""Our codes that may refuse what the schema allows, each with the reason why."""


def content(name: str) -> bytes:
    """A message of the reference data."""
    return (REFERENCE / "cap" / name).read_bytes()


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    """The official schema of CAP 1.2."""
    return load_schema()


def load_schema() -> etree.XMLSchema:
    """The official schema, parsed."""
    return etree.XMLSchema(etree.parse(str(REFERENCE / "schemas" / "cap12.xsd")))


def refusal_codes(document: bytes) -> set[str]:
    """The codes of what `parse` has against the document; empty if it is read."""
    try:
        cap.parse(document)
    except Invalid as error:
        return {mistake.code for mistake in error.errors}
    return set()


@pytest.mark.parametrize("name", [*SPECIFICATION, *REAL])
def test_messages_of_the_standard_and_of_the_world_are_read(name: str, schema: etree.XMLSchema) -> None:
    """Each is read without a complaint, and what we render of it is valid and means the same."""
    message = cap.parse(content(name))
    rendered = cap.render(message)

    assert schema.validate(etree.fromstring(rendered)), schema.error_log
    assert cap.parse(rendered) == message


def test_every_reference_message_has_an_expectation() -> None:
    """A message that is added to the reference data is not passed over."""
    found = {str(path.relative_to(REFERENCE / "cap")) for path in (REFERENCE / "cap").rglob("*.xml")}

    assert found == {*SPECIFICATION, *REAL, *REFUSED}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_and_older_messages_are_refused(name: str) -> None:
    """Each is refused for the reasons that it was made for, and for no other."""
    assert refusal_codes(content(name)) == REFUSED[name]


def test_details_of_real_messages_are_not_misread() -> None:
    """Nine references, ISO-8859-1 text, two languages, a foreign sender in references."""
    signed = cap.parse(content("real/ca_ec_2013_signed_update_9refs.cap.xml"))
    assert (len(signed.references), signed.signatures) == (9, 2)
    usgs = cap.parse(content("real/us_usgs_2012_iso8859-1.cap.xml"))
    assert usgs.info[0].headline == "EQ 4.6 Usulután, Usulután, El Salvador - PRELIMINARY REPORT"
    spanish = cap.parse(content("spec-examples/cap12_appendix_a4.xml")).info[1]
    assert (spanish.language, spanish.event) == ("es-US", "Abducción de Niño")
    tsunami = cap.parse(content("real/us_wcatwc_2011_tsunami_update.cap.xml"))
    assert tsunami.references[0].sender == "PAAQ"
    assert tsunami.incidents == ("lqw6d6",)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.xml")))
def test_our_examples_are_valid_against_the_official_schema(name: str, schema: etree.XMLSchema) -> None:
    """What we show to partners is CAP, before and after rendering."""
    document = (EXAMPLES / name).read_bytes()

    assert schema.validate(etree.fromstring(document)), schema.error_log
    assert schema.validate(etree.fromstring(cap.render(cap.parse(document)))), schema.error_log


@settings(max_examples=150, deadline=None, derandomize=True)
@given(messages)
def test_everything_rendered_is_valid_against_the_official_schema(message: cap.CapMessage) -> None:
    """Whatever the message says, its XML is valid."""
    schema = load_schema()

    assert schema.validate(etree.fromstring(cap.render(message))), schema.error_log


# --- mutations --------------------------------------------------------------------------------------------------------

TEXTS = [
    "",
    " ",
    "Actual",
    " Actual",
    "actual",
    "Private",
    "Restricted",
    "Update",
    "Immediate",
    "Extreme",
    "None",
    "en-US",
    "en_US",
    "2021-08-15T11:00:00-00:00",
    "\n2021-08-15T11:00:00+14:00 ",
    "2021-08-15T11:00:00+14:01",
    "2021-08-15T11:00:00Z",
    "2021-08-15T24:00:00-00:00",
    "2021-02-29T11:00:00-00:00",
    "0000-01-01T00:00:00-00:00",
    "9999-12-31T23:59:59-14:00",
    "2021-08-15T11:00:00,00:00",
    "0,0 0,1 1,1 0,0",
    "0,0 5",
    "12",
    "+12",
    "-12",
    "1.5",
    ".5",
    "5.",
    "1e5",
    "https://example.org/a b",
    "http://[",
    "http://a:b/",
    "%zz",
    "urn:a",
    ":a",
    "a#b#c",
    "Ж",
]
NAMES = ["scope", "info", "language", "value", "area", "polygon", "note", "severity", "priority"]


def _apply(root: etree._Element, kind: str, place: int, other: int) -> None:
    """One change somewhere in the tree: `place` and `other` choose where and what."""
    nodes = [node for node in root.iterdescendants() if cap.NAMESPACE in str(node.tag)]
    if not nodes:
        return
    node = nodes[place % len(nodes)]
    parent = node.getparent()
    assert parent is not None
    if kind == "drop":
        parent.remove(node)
    elif kind == "repeat":
        parent.insert(parent.index(node), copy.deepcopy(node))
    elif kind == "move":
        parent.insert(other % len(parent), node)
    elif kind == "transplant":
        nodes[other % len(nodes)].append(copy.deepcopy(node))
    elif kind == "rename":
        node.tag = f"{{{cap.NAMESPACE}}}{NAMES[other % len(NAMES)]}"
    elif kind == "other namespace":
        node.tag = f"{{urn:other}}{etree.QName(node).localname}"
    elif kind == "attribute":
        node.set("id", "1")
    elif kind == "tail":
        node.tail = "text"
    elif kind == "instruction":
        parent.insert(0, etree.ProcessingInstruction("php", "x"))
    elif kind == "comment":
        node.insert(0, etree.Comment("nothing"))
    else:
        node.text = TEXTS[other % len(TEXTS)]


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["drop", "repeat", "move", "transplant", "rename", "other namespace", "attribute", "tail", "instruction"]
            + ["comment"]
            + ["text"] * 8
        ),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
    ),
    min_size=1,
    max_size=2,
)
SEEDS = ["kabul_2021_flash", "derna_2023_update", "exercise", "cancel"]


def test_our_verdict_on_mutations_is_the_schema_s_or_stricter_for_a_listed_reason(schema: etree.XMLSchema) -> None:
    """Whatever the schema refuses, we refuse; what we refuse beyond it, we refuse by a rule of the table."""
    seen = {"both accept": 0, "both refuse": 0, "stricter": 0}

    @settings(max_examples=600, deadline=None, derandomize=True)
    @given(st.sampled_from(SEEDS), MUTATIONS)
    def compare(seed: str, mutations: list[tuple[str, int, int]]) -> None:
        root = etree.fromstring((EXAMPLES / f"{seed}.cap.xml").read_bytes())
        for mutation in mutations:
            _apply(root, *mutation)
        document = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
        valid = schema.validate(etree.fromstring(document))
        codes = refusal_codes(document)
        if not valid:
            assert codes, schema.error_log
            seen["both refuse"] += 1
        elif codes:
            assert codes <= set(STRICTER), codes - set(STRICTER)
            seen["stricter"] += 1
        else:
            seen["both accept"] += 1

    compare()
    assert min(seen.values()) > 20, seen


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["sent", "size", "altitude", "web", "uri", "language", "status", "urgency", "polygon"])
def test_each_text_in_each_place_is_judged_as_by_the_schema_or_stricter(
    name: str, text: str, schema: etree.XMLSchema
) -> None:
    """Every odd text in every typed element: never laxer than the schema, stricter only by the table."""
    root = etree.fromstring((EXAMPLES / "derna_2023_update.cap.xml").read_bytes())
    info = root.find(f"{{{cap.NAMESPACE}}}info")
    area = root.find(f".//{{{cap.NAMESPACE}}}area")
    assert info is not None
    assert area is not None
    if name == "language":
        info.insert(0, etree.Element(f"{{{cap.NAMESPACE}}}language"))
    if name == "polygon":
        area.insert(1, etree.Element(f"{{{cap.NAMESPACE}}}polygon"))
    node = root.find(f".//{{{cap.NAMESPACE}}}{name}")
    assert node is not None
    node.text = text
    document = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    codes = refusal_codes(document)

    if schema.validate(etree.fromstring(document)):
        assert codes <= set(STRICTER)
    else:
        assert codes
