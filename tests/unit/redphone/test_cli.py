"""The command line against a canned server on loopback: what is asked for, what is said, and the exit codes."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from redphone import files
from redphone.cli import app
from redphone.exits import Exit, Failed
from shared.keys import KeyRing

ALERT_ID = "01900000-0000-7000-8000-000000000001"
CONTACT_ID = "01a201d9-0894-76cc-818c-a0f06597d362"
ALERT: dict[str, Any] = {
    "id": ALERT_ID,
    "reference": "RP-CA-2026-0001",
    "state": "draft",
    "precedence": "FLASH",
    "msg_type": "Alert",
    "to": ["US", "GB"],
    "for_information": [],
    "info": [{"language": "en", "headline": "Kabul"}],
}
PARTNERS = [
    {"code": "CA", "standing": "member", "active": True},
    {"code": "US", "standing": "member", "active": True},
    {"code": "BR", "standing": "participating", "active": True},
    {"code": "XR", "standing": "secretariat", "active": True},
]
TOKEN = "e30.eyJwYXJ0bmVyIjoiQ0EifQ.c2ln"  # {} . {"partner":"CA"} . sig
RAISE = ["alert", "raise", "Kabul", "--countries", "AFG", "--to", "US,GB", "--precedence", "FLASH"]


@dataclass
class Canned:
    """A server that answers what a test puts into `answers`, and remembers what it was asked."""

    url: str = ""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def sent_to(self, call: str) -> list[tuple[dict[str, str], bytes]]:
        """Headers and bodies of the requests to `METHOD /path`."""
        return [(headers, body) for asked, headers, body in self.asked if asked == call]


@pytest.fixture
def server() -> Iterator[Canned]:
    """The canned server, which gives everybody a token."""
    canned = Canned(answers={"POST /v1/tokens": (200, {"access_token": TOKEN, "partner": "CA"})})

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            call = f"{self.command} {self.path.partition('?')[0]}"
            canned.asked.append((call, dict(self.headers.items()), body))
            status, said = canned.answers.get(call, (404, problem("not_found", 404, "there is no such thing")))
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", '"7"')
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer  # noqa: N815 - names that the library asks for

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    canned.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield canned
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def run(server: Canned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command with a credential from the environment and a state directory of its own."""
    for name in ("REDPHONE_TOKEN", "REDPHONE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REDPHONE_URL", server.url)
    monkeypatch.setenv("REDPHONE_CLIENT_ID", "ca-duty")
    monkeypatch.setenv("REDPHONE_CLIENT_SECRET", "rps_very-secret")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("redphone.client.FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return invoke


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def problem(code: str, status: int, detail: str, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """A refusal as the services write it."""
    return {
        "type": f"/problems/{code}",
        "title": f"Title of {code}",
        "status": status,
        "detail": detail,
        "instance": "urn:uuid:0",
        "code": code,
        "errors": errors or [],
    }


def commands(group: typer.core.TyperGroup, *path: str) -> Iterator[tuple[str, ...]]:
    """All commands, as the words that name them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)  # type: ignore[arg-type]
        else:
            yield (*path, name)


ALL = sorted(commands(get_command(app)))  # type: ignore[arg-type]


# --- help -------------------------------------------------------------------------------------------------------------


def test_every_command_of_the_issue_exists() -> None:
    """The command line has the commands that people were promised."""
    names = {" ".join(words) for words in ALL}
    assert names >= {
        *(
            "up",
            "serve",
            "deploy",
            "demo",
            "network apply",
            "network secret",
            "acknowledge",
            "position",
            "add-contact",
            "stop-pages",
            "ask",
            "questions",
            "answer-question",
            "read-back",
            "confirm-read-back",
            "board",
            "pages",
            "on-call",
            "readiness",
            "token",
        ),
        *(f"alert {verb}" for verb in ("raise", "release", "update", "cancel", "close", "show", "list", "watch")),
        *("webhook listen", "webhook ping", "doctor", "docs"),
        *(f"deliveries {verb}" for verb in ("list", "show", "replay")),
        *(f"heartbeat {verb}" for verb in ("list", "now")),
        *(f"hand-over {verb}" for verb in ("list", "sign")),
        *(f"keys {verb}" for verb in ("list", "add", "promote", "drop", "rotate")),
        *(f"points {verb}" for verb in ("list", "add", "change", "remove", "verify", "confirm")),
    }


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_help_text_has_an_example_and_json(words: tuple[str, ...]) -> None:
    """Each command explains itself with an example and can speak JSON."""
    result = CliRunner().invoke(app, [*words, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert "For example:" in result.stdout
    assert "redphone" in result.stdout.split("For example:")[1] or "curl" in result.stdout
    assert "--json" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_exit_codes_are_documented() -> None:
    """Every exit code that a script can see stands in the help text."""
    shown = re.sub(r"\s+", " ", CliRunner().invoke(app, ["--help"]).stdout)
    assert all(f"{int(code)} " in shown.partition("Exit codes:")[2] for code in Exit)


# --- raising ----------------------------------------------------------------------------------------------------------


def test_raise_needs_four_things_only(server: Canned, run: Callable[..., Result]) -> None:
    """Headline, countries, partners and precedence are enough; id and key are made by the command, and are the same."""
    server.answers["POST /v1/alerts"] = (201, ALERT)
    result = run(*RAISE)
    assert result.exit_code == 0, result.output
    [(headers, body)] = server.sent_to("POST /v1/alerts")
    sent = json.loads(body)
    assert UUID(sent.pop("id")).version == 7
    assert UUID(headers["Idempotency-Key"]).version == 7
    assert sent == {"headline": "Kabul", "countries": ["AFG"], "to": ["US", "GB"], "precedence": "FLASH"}
    assert "RP-CA-2026-0001" in result.stdout
    assert "redphone alert release RP-CA-2026-0001 --precedence FLASH" in result.stdout


def test_to_all_means_all_but_oneself_and_the_secretariat(server: Canned, run: Callable[..., Result]) -> None:
    """`--to all` addresses every partner but the raiser, the secretariat and those who are only told."""
    server.answers["POST /v1/alerts"] = (201, ALERT)
    server.answers["GET /v1/partners"] = (200, {"items": PARTNERS, "next_cursor": None})
    run("alert", "raise", "Kabul", "--countries", "AFG", "--to", "all", "--precedence", "flash")
    run(*RAISE[:3], "--countries", "AFG", "--to", "all", "--for-information", "br", "--precedence", "FLASH")
    everybody, told = [json.loads(body)["to"] for _, body in server.sent_to("POST /v1/alerts")]
    assert everybody == ["US", "BR"]
    assert told == ["US"]


def test_a_raise_without_an_answer_is_repeated_with_the_same_id(server: Canned, run: Callable[..., Result]) -> None:
    """When the answer is lost, the same command sends the same id and key; after an answer it is a new alert."""
    server.answers["POST /v1/alerts"] = (503, problem("unavailable", 503, "not now"))
    lost = run(*RAISE)
    assert lost.exit_code == Exit.UNREACHABLE
    assert "same command again is safe" in lost.stderr
    server.answers["POST /v1/alerts"] = (201, ALERT)
    assert run(*RAISE).exit_code == 0
    assert run(*RAISE).exit_code == 0
    keys = [(headers["Idempotency-Key"], json.loads(body)["id"]) for headers, body in server.sent_to("POST /v1/alerts")]
    assert len(set(keys[:-1])) == 1
    assert keys[-1] != keys[0]


def test_a_refused_raise_is_not_kept(server: Canned, run: Callable[..., Result], tmp_path: Path) -> None:
    """A refusal is an answer: nothing of the request stays on the disk."""
    server.answers["POST /v1/alerts"] = (422, problem("invalid", 422, "the input is wrong in: to"))
    assert run(*RAISE).exit_code == Exit.REFUSED
    assert list((tmp_path / "state").rglob("*.json")) == []


def test_a_stored_request_is_its_owners_alone(server: Canned, run: Callable[..., Result], tmp_path: Path) -> None:
    """What waits for an answer holds an alert's text, so nobody else may read it."""
    server.answers["POST /v1/alerts"] = (503, problem("unavailable", 503, "not now"))
    run(*RAISE)
    [stored] = (tmp_path / "state").rglob("*.json")
    assert stored.stat().st_mode & 0o077 == 0


def test_what_is_missing_is_named(server: Canned, run: Callable[..., Result]) -> None:
    """Without the four least things nothing is sent, and those that are missing are named."""
    result = run("alert", "raise", "Kabul")
    assert result.exit_code == Exit.USAGE
    assert "--countries, --to, --precedence" in result.stderr
    assert server.asked == []


def test_an_exercise_says_so(server: Canned, run: Callable[..., Result]) -> None:
    """`--exercise` makes an alert of status Exercise with the note that it needs."""
    server.answers["POST /v1/alerts"] = (201, ALERT)
    run(*RAISE, "--exercise", "Spring drill")
    [(_, body)] = server.sent_to("POST /v1/alerts")
    assert {"status": "Exercise", "note": "Spring drill"}.items() <= json.loads(body).items()


def test_cap_is_sent_as_it_is(server: Canned, run: Callable[..., Result], tmp_path: Path) -> None:
    """`--cap FILE` sends the message untouched, with CAP's media type and a key."""
    server.answers["POST /v1/alerts"] = (201, ALERT)
    (tmp_path / "alert.xml").write_text("<alert/>")
    assert run("alert", "raise", "--cap", "alert.xml").exit_code == 0
    [(headers, body)] = server.sent_to("POST /v1/alerts")
    assert (headers["Content-Type"], body) == ("application/cap+xml", b"<alert/>")
    assert UUID(headers["Idempotency-Key"]).version == 7


# --- refusals and exit codes ------------------------------------------------------------------------------------------


def test_a_problem_is_told_in_words(server: Canned, run: Callable[..., Result]) -> None:
    """A refusal says what is wrong, which field, and what to do; never the secret or a trace."""
    wrong = [{"field": "countries[0]", "detail": "must be ISO 3166-1 alpha-3", "code": "country_unknown"}]
    server.answers["POST /v1/alerts"] = (422, problem("invalid", 422, "the input is wrong in: countries", wrong))
    server.answers["GET /problems/invalid"] = (200, {"what_to_do": "Correct the fields."})
    result = run(*RAISE)
    assert result.exit_code == Exit.REFUSED
    assert "Title of invalid (invalid)." in result.stderr
    assert "countries[0]: must be ISO 3166-1 alpha-3" in result.stderr
    assert "What to do: Correct the fields." in result.stderr
    assert "rps_very-secret" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "invalid_client", Exit.NOT_AUTHORISED),
        (403, "role_missing", Exit.NOT_AUTHORISED),
        (404, "not_found", Exit.REFUSED),
        (409, "alert_draft", Exit.REFUSED),
        (429, "too_many_streams", Exit.UNREACHABLE),
        (500, "internal", Exit.UNREACHABLE),
    ],
)
def test_each_kind_of_refusal_has_its_exit_code(
    server: Canned, run: Callable[..., Result], status: int, code: str, exit_code: Exit
) -> None:
    """A script can tell a wrong request from a missing right and from trouble that passes."""
    server.answers["GET /v1/alerts"] = (status, problem(code, status, "so it is"))
    assert run("alert", "list").exit_code == exit_code


def test_nobody_there(run: Callable[..., Result], free_port: int) -> None:
    """Where nobody answers, the command says so and how to start it, and ends with 3."""
    result = run("alert", "list", "--url", f"http://127.0.0.1:{free_port}")
    assert result.exit_code == Exit.UNREACHABLE
    assert "redphone up" in result.stderr


def test_an_answer_of_somebody_else(server: Canned, run: Callable[..., Result]) -> None:
    """A server that is not Red Phone gives a sentence, not a trace."""
    server.answers["GET /v1/alerts"] = (404, "<html>")
    result = run("alert", "list")
    assert result.exit_code == Exit.REFUSED
    assert "not in Red Phone's way" in result.stderr


def test_without_a_credential(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any credential the command says how to give one, and ends with 4."""
    monkeypatch.delenv("REDPHONE_CLIENT_ID")
    monkeypatch.delenv("REDPHONE_CLIENT_SECRET")
    result = run("alert", "list")
    assert result.exit_code == Exit.NOT_AUTHORISED
    assert "--as" in result.stderr


def test_a_saved_credential_is_used_by_name(server: Canned, run: Callable[..., Result], tmp_path: Path) -> None:
    """`--as` finds the secret in the data directory's file, and sends it to the token call only."""
    files.save_credentials(tmp_path / ".redphone" / "credentials.json", [files.SavedCredential("us-duty", "rps_us")])
    server.answers["GET /v1/alerts"] = (200, {"items": [], "next_cursor": None})
    assert run("alert", "list", "--as", "us-duty").exit_code == 0
    [(_, body)] = server.sent_to("POST /v1/tokens")
    assert json.loads(body)["client_secret"] == "rps_us"
    [(headers, _)] = server.sent_to("GET /v1/alerts")
    assert headers["Authorization"] == f"Bearer {TOKEN}"


def test_credentials_that_others_may_read_are_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    """A file of secrets that is open to others is not used, and the way to close it is named."""
    path = tmp_path / ".redphone" / "credentials.json"
    files.save_credentials(path, [files.SavedCredential("us-duty", "rps_us")])
    path.chmod(0o644)
    result = run("alert", "list", "--as", "us-duty")
    assert result.exit_code == Exit.NOT_AUTHORISED
    assert "chmod 600" in result.stderr


def test_json_lines_are_all_that_is_printed(server: Canned, run: Callable[..., Result]) -> None:
    """With --json standard output holds one object a line, and a refusal is JSON on standard error."""
    server.answers["GET /v1/alerts"] = (200, {"items": [ALERT, ALERT], "next_cursor": None})
    result = run("alert", "list", "--json")
    assert [json.loads(line)["reference"] for line in result.stdout.splitlines()] == ["RP-CA-2026-0001"] * 2
    server.answers["GET /v1/alerts"] = (403, problem("role_missing", 403, "this needs a role"))
    refused = run("alert", "list", "--json")
    assert refused.stdout == ""
    assert json.loads(refused.stderr)["code"] == "role_missing"


def test_control_characters_are_taken_out(server: Canned, run: Callable[..., Result]) -> None:
    """What a partner wrote cannot move the cursor or colour the screen."""
    shouting = {**ALERT, "info": [{"language": "en", "headline": "\x1b[31mred [bold]x[/bold]"}]}
    server.answers["GET /v1/alerts"] = (200, {"items": [shouting], "next_cursor": None})
    result = run("alert", "list")
    assert "\x1b" not in result.stdout
    assert "[bold]x[/bold]" in result.stdout


def test_update_must_say_whether_it_asks_anew(server: Canned, run: Callable[..., Result]) -> None:
    """An Update without the decision whom it asks again is not sent."""
    result = run("alert", "update", "RP-CA-2026-0001", "--description", "x")
    assert result.exit_code == Exit.USAGE
    assert "--asks-anew or --asks-nobody-anew" in result.stderr
    assert server.asked == []


def test_release_without_precedence_and_terminal(server: Canned, run: Callable[..., Result]) -> None:
    """A script confirms the precedence by an option; nobody is asked who is not there."""
    result = run("alert", "release", "RP-CA-2026-0001")
    assert result.exit_code == Exit.USAGE
    assert server.asked == []


def test_release_by_hand_names_the_version_that_was_shown(
    server: Canned, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is shown the draft releases what they were shown; a script that was shown nothing names no version."""
    words = {"headline": "Kabul", "language": "en", "description": "The last words that were written."}
    draft = ALERT | {"raiser": "CA", "tlp": "TLP:AMBER", "withheld": False, "status": "Actual", "info": [words]}
    server.answers["GET /v1/alerts/RP-CA-2026-0001"] = (200, draft)
    server.answers["POST /v1/alerts/RP-CA-2026-0001/release"] = (202, ALERT)
    assert run("alert", "release", "RP-CA-2026-0001", "--precedence", "FLASH").exit_code == 0
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("redphone.alerts.sys", terminal)
    monkeypatch.setattr("redphone.output.Output.is_live", property(lambda _: True))
    by_hand = CliRunner().invoke(app, ["alert", "release", "RP-CA-2026-0001"], input="flash\n")
    assert by_hand.exit_code == 0, by_hand.output
    assert words["description"] in by_hand.output
    sent = server.sent_to("POST /v1/alerts/RP-CA-2026-0001/release")
    assert [headers.get("If-Match") for headers, _ in sent] == [None, '"7"']
    assert [json.loads(body) for _, body in sent] == [{"precedence": "FLASH"}] * 2


def test_acknowledge_all(server: Canned, run: Callable[..., Result]) -> None:
    """`acknowledge all` is one call for one's own government."""
    server.answers["POST /v1/acknowledgements"] = (200, {"escalations": []})
    result = run("acknowledge", "all")
    assert result.exit_code == 0, result.output
    [(_, body)] = server.sent_to("POST /v1/acknowledgements")
    assert json.loads(body) == {"alert_ids": "all", "via": "command_line"}


def test_considering_needs_a_time(server: Canned, run: Callable[..., Result]) -> None:
    """Whoever considers must say until when; otherwise nothing is sent."""
    assert run("position", ALERT_ID, "considering").exit_code == Exit.USAGE
    assert server.asked == []


def test_who_is_asked_is_changed_by_two_commands(server: Canned, run: Callable[..., Result]) -> None:
    """Adding a contact names them; stopping one's own pages names nobody, because it is nobody else's."""
    cell = {
        "id": ALERT_ID,
        "alert": {"id": ALERT_ID, "reference": "RP-CA-2026-0042"},
        "partner": "CA",
        "state": "notified",
        "acknowledgement": None,
    }
    server.answers[f"GET /v1/escalations/{ALERT_ID}"] = (200, cell)
    server.answers[f"POST /v1/escalations/{ALERT_ID}/contacts"] = (200, cell)
    server.answers[f"POST /v1/escalations/{ALERT_ID}/pages/stop"] = (200, cell)
    assert run("add-contact", ALERT_ID, CONTACT_ID).exit_code == 0
    assert run("stop-pages", ALERT_ID).exit_code == 0
    [(_, added)] = server.sent_to(f"POST /v1/escalations/{ALERT_ID}/contacts")
    assert json.loads(added) == {"contact_id": CONTACT_ID}
    [(_, stopped)] = server.sent_to(f"POST /v1/escalations/{ALERT_ID}/pages/stop")
    assert stopped == b""
    assert run("add-contact", ALERT_ID, "Jane").exit_code == Exit.USAGE


QUESTION: dict[str, Any] = {
    "id": CONTACT_ID,
    "alert_id": ALERT_ID,
    "partner": "CA",
    "question": "Are there children?",
    "asked_at": "2026-01-01T00:00:00Z",
    "asked_by": None,
    "answer": None,
    "answered_at": None,
    "answered_by": None,
}


def test_questions_are_asked_listed_and_answered(server: Canned, run: Callable[..., Result]) -> None:
    """A question goes to one's own escalation, its answer to the question's id, and the list shows both."""
    server.answers[f"GET /v1/escalations/{ALERT_ID}"] = (200, {"id": ALERT_ID})
    server.answers[f"POST /v1/escalations/{ALERT_ID}/questions"] = (201, QUESTION)
    server.answers["GET /v1/questions"] = (200, {"questions": [{**QUESTION, "answer": "Yes, eleven"}]})
    server.answers[f"POST /v1/questions/{CONTACT_ID}/answer"] = (200, QUESTION)
    asked = run("ask", ALERT_ID, "Are there children?")
    assert asked.exit_code == 0, asked.output
    [(_, body)] = server.sent_to(f"POST /v1/escalations/{ALERT_ID}/questions")
    assert json.loads(body) == {"text": "Are there children?"}
    listed = run("questions", ALERT_ID, "--json")
    assert json.loads(listed.stdout)["answer"] == "Yes, eleven"
    assert run("answer-question", CONTACT_ID, "Yes").exit_code == 0
    [(_, body)] = server.sent_to(f"POST /v1/questions/{CONTACT_ID}/answer")
    assert json.loads(body) == {"text": "Yes"}


def hand_over(number: int, **changes: Any) -> dict[str, Any]:
    """A hand-over in which the caller goes off duty, open to signatures for hours."""
    nobody = {"contact_id": CONTACT_ID, "title": "Officer", "signed_at": None, "note": None, "open_escalations": None}
    fields = {
        "id": f"01a201d9-0894-76cc-818c-a0f06597d36{number}",
        "rota_id": CONTACT_ID,
        "rota": "Duty officers",
        "state": "unsigned",
        "outgoing": {**nobody, "name": "Anna Example"},
        "incoming": {**nobody, "name": "Ben Example"},
        "start_at": "2026-01-01T02:00:00Z",
        "until_at": "2999-01-01T00:00:00Z",
        "signed_from": "2026-01-01T00:00:00Z",
        "own_side": "outgoing",
    }
    return {**fields, **changes}


def waiting(server: Canned, *hand_overs: dict[str, Any]) -> None:
    """These hand-overs are there, and can be signed."""
    open_one = {"reference": "RP-CA-2026-0042", "precedence": "FLASH", "state": "notified", "level": 2}
    server.answers["GET /v1/hand-overs"] = (200, {"hand_overs": list(hand_overs), "open_escalations": [open_one]})
    for one in hand_overs:
        server.answers[f"POST /v1/hand-overs/{one['id']}/signature"] = (200, {**one, "state": "partly_signed"})


@pytest.mark.parametrize("signed", [False, True])
def test_who_is_on_call_says_who_is_paged_beside_them(server: Canned, run: Callable[..., Result], signed: bool) -> None:
    """Until both have signed the one who handed over is named, too."""
    target = {"kind": "rota", "name": "Ben Example", "hand_over": {"outgoing": "Anna Example", "signed": signed}}
    answering = {"partner": "CA", "levels": [{"level": 1, "targets": [target]}]}
    server.answers["GET /v1/partners/CA/on-call"] = (200, answering)
    shown = run("on-call", "CA")
    assert shown.exit_code == 0, shown.output
    assert "Ben Example" in shown.stdout
    assert ("Anna Example as well" in shown.stdout) is not signed


def test_hand_overs_are_listed_with_what_is_open(server: Canned, run: Callable[..., Result]) -> None:
    """Who hands over to whom, who has signed, what was written, and which escalations are open."""
    signed = {**hand_over(1)["outgoing"], "signed_at": "2026-01-01T01:00:00Z", "note": "Ottawa calls back"}
    waiting(server, hand_over(1, outgoing=signed))
    shown = run("hand-over", "list", "--state", "unsigned")
    assert shown.exit_code == 0, shown.output
    for part in ("Duty officers", "Anna Example (signed)", "Ben Example", "Ottawa calls back", "RP-CA-2026-0042"):
        assert part in shown.stdout
    assert json.loads(run("hand-over", "list", "--json").stdout)["rota"] == "Duty officers"


def test_the_hand_over_that_waits_is_signed_without_its_id(server: Canned, run: Callable[..., Result]) -> None:
    """What others sign, what the caller has signed, what is too early and what is over does not wait."""
    signed = {**hand_over(2)["outgoing"], "signed_at": "2026-01-01T01:00:00Z"}
    waiting(
        server,
        hand_over(1, own_side=None),
        hand_over(2, outgoing=signed),
        hand_over(3, signed_from="2998-01-01T00:00:00Z"),
        hand_over(4, until_at="2026-01-01T03:00:00Z"),
        hand_over(5),
    )
    done = run("hand-over", "sign", "--note", "Ottawa calls back")
    assert done.exit_code == 0, done.output
    [(_, body)] = server.sent_to(f"POST /v1/hand-overs/{hand_over(5)['id']}/signature")
    assert json.loads(body) == {"note": "Ottawa calls back"}


def test_signing_asks_which_where_several_wait_and_says_so_where_none_does(
    server: Canned, run: Callable[..., Result]
) -> None:
    """Nothing is signed by guessing; an id names one."""
    waiting(server)
    assert run("hand-over", "sign").exit_code == Exit.REFUSED
    waiting(server, hand_over(1), hand_over(2, own_side="incoming"))
    several = run("hand-over", "sign")
    assert several.exit_code == Exit.USAGE
    assert hand_over(2)["id"] in several.stderr
    assert run("hand-over", "sign", hand_over(2)["id"]).exit_code == 0
    [(_, body)] = server.sent_to(f"POST /v1/hand-overs/{hand_over(2)['id']}/signature")
    assert json.loads(body) == {}


def test_a_read_back_is_given_and_confirmed(server: Canned, run: Callable[..., Result]) -> None:
    """The partner repeats three things; the raiser names alert and partner, and says right or --wrong."""
    cell = {
        "id": ALERT_ID,
        "alert": {"id": ALERT_ID, "reference": "RP-CA-2026-0042"},
        "kind": "answer",
        "partner": "US",
        "read_back": {"state": "given", "country": "Libya", "request": "field hospital", "time": "now", "note": None},
    }
    server.answers[f"GET /v1/escalations/{ALERT_ID}"] = (200, cell)
    server.answers["GET /v1/escalations"] = (200, {"items": [cell], "next_cursor": None})
    server.answers[f"POST /v1/escalations/{ALERT_ID}/read-back"] = (200, cell)
    server.answers[f"POST /v1/escalations/{ALERT_ID}/read-back/confirmation"] = (200, cell)
    words = ("--country", "Libya", "--request", "field hospital", "--time", "now")
    given = run("read-back", ALERT_ID, *words)
    assert given.exit_code == 0, given.output
    assert "given" in given.output
    [(_, body)] = server.sent_to(f"POST /v1/escalations/{ALERT_ID}/read-back")
    assert json.loads(body) == {"country": "Libya", "request": "field hospital", "time": "now"}
    assert run("confirm-read-back", ALERT_ID, "us").exit_code == 0
    assert run("confirm-read-back", ALERT_ID, "us", "--wrong", "--note", "Two of them").exit_code == 0
    sent = [json.loads(body) for _, body in server.sent_to(f"POST /v1/escalations/{ALERT_ID}/read-back/confirmation")]
    assert sent == [{"correct": True}, {"correct": False, "note": "Two of them"}]
    server.answers["GET /v1/escalations"] = (200, {"items": [], "next_cursor": None})
    assert run("confirm-read-back", ALERT_ID, "us").exit_code == Exit.REFUSED
    assert run("read-back", ALERT_ID).exit_code == Exit.USAGE


# --- network files ----------------------------------------------------------------------------------------------------

APPLIED: dict[str, Any] = {
    "dry_run": False,
    "created": [{"kind": "partner", "partner": "CA", "key": "partners.CA"}],
    "updated": [],
    "unchanged": [{"kind": "partner", "partner": "US", "key": "partners.US"}],
    "left_alone": [
        {
            "kind": "rota",
            "partner": "GB",
            "key": "partners.GB.rotas.duty",
            "reason": "edited",
            "detail": "GB edited it.",
        }
    ],
    "secrets": [{"client_id": "ca-duty", "secret": "rps_shown-once", "partner": "CA", "name": "Ann", "roles": []}],
}


@pytest.fixture
def network_file(tmp_path: Path) -> str:
    """A file to send; the canned server does not read it."""
    (tmp_path / "my.toml").write_text("format = 1")
    return "my.toml"


def test_applying_a_file_shows_new_secrets_once(server: Canned, run: Callable[..., Result], network_file: str) -> None:
    """What was created and left alone, why, and the new secrets are shown; what stays the same is only counted."""
    server.answers["POST /v1/network"] = (200, APPLIED)
    result = run("network", "apply", network_file)
    assert result.exit_code == 0, result.output
    [(headers, body)] = server.sent_to("POST /v1/network")
    assert (headers["Content-Type"], body) == ("application/toml", b"format = 1")
    assert "rps_shown-once" in result.stdout
    assert "GB edited it." in result.stdout
    assert "1 created, 1 unchanged, 1 left alone." in result.stdout
    assert "partners.US" not in result.stdout


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_saved_secrets_are_not_shown(
    server: Canned, run: Callable[..., Result], network_file: str, tmp_path: Path, form: list[str]
) -> None:
    """With --save the secrets go into a file that only its owner may read, and not to the screen."""
    server.answers["POST /v1/network"] = (200, APPLIED)
    result = run("network", "apply", network_file, "--save", "secrets.json", *form)
    assert "rps_shown-once" not in result.output
    saved = tmp_path / "secrets.json"
    assert files.load_credentials(saved)["ca-duty"].client_secret == "rps_shown-once"
    assert saved.stat().st_mode & 0o077 == 0


def test_lost_secrets_are_replaced_one_by_one(server: Canned, run: Callable[..., Result], tmp_path: Path) -> None:
    """All live credentials of a partner get new secrets, each kept as soon as it is made; revoked ones get none."""
    path = "/v1/partners/CA/credentials"
    listed = [{"client_id": "ca-duty"}, {"client_id": "ca-old", "revoked_at": "2026-01-01T00:00:00Z"}]
    server.answers[f"GET {path}"] = (200, {"items": listed})
    made = {"client_id": "ca-duty", "secret": "rps_new", "partner": "CA", "name": "Duty", "roles": ["duty_officer"]}
    server.answers[f"POST {path}/ca-duty/secret"] = (200, made)
    result = run("network", "secret", "CA", "--all", "--save", "secrets.json")
    assert result.exit_code == 0, result.output
    assert "rps_new" not in result.output
    assert files.load_credentials(tmp_path / "secrets.json")["ca-duty"].client_secret == "rps_new"
    assert "rps_new" in run("network", "secret", "CA", "ca-duty").stdout


@pytest.mark.parametrize("arguments", [(), ("ca-duty", "--all")])
def test_whose_secret_is_lost_must_be_said(run: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    """Nobody's secrets, or everybody's and somebody's, is a mistake of the command line."""
    assert run("network", "secret", "CA", *arguments).exit_code == Exit.USAGE


def test_mistakes_of_a_file_are_told_by_place(server: Canned, run: Callable[..., Result], network_file: str) -> None:
    """Every mistake is one line with file, line and key, and it is said that nothing was applied."""
    wrong = [{"field": "partners.CA.standing", "detail": "my.toml, line 7: partners.CA.standing names 'friend'"}]
    server.answers["POST /v1/network"] = (422, problem("invalid_network_file", 422, "1 mistake", wrong))
    result = run("network", "apply", network_file)
    assert result.exit_code == Exit.REFUSED
    assert result.stderr.splitlines() == [
        "my.toml has mistakes; nothing was applied.",
        "  my.toml, line 7: partners.CA.standing names 'friend'",
    ]


def test_a_lost_answer_is_not_asked_for_twice(server: Canned, run: Callable[..., Result], network_file: str) -> None:
    """A second try would find everything unchanged and hide that the secrets of the first are lost."""
    server.answers["POST /v1/network"] = (503, problem("unavailable", 503, "not now"))
    assert run("network", "apply", network_file).exit_code == Exit.UNREACHABLE
    assert len(server.sent_to("POST /v1/network")) == 1


# --- messages to systems ----------------------------------------------------------------------------------------------

PAGE_ID = "01900000-0000-7000-8000-000000000201"
ENDPOINT_ID = "01900000-0000-7000-8000-000000000202"
TRIED = {
    "number": 1,
    "started_at": "2026-10-01T08:00:00Z",
    "finished_at": "2026-10-01T08:00:01Z",
    "state": "failed",
    "reason": "http_status",
    "detail": "HTTP 503",
    "status_code": 503,
    "elapsed_seconds": 0.02,
}
PAGE: dict[str, Any] = {
    "id": PAGE_ID,
    "channel": "sms",
    "told": "Senior contact",
    "message_type": "alert.released",
    "level": 2,
    "state": "due",
    "next_attempt_at": "2026-10-01T08:02:00Z",
    "attempts": [
        TRIED
        | {
            "state": "delivered",
            "reason": "accepted",
            "detail": "over \x1b[31mhere",
            "provider": "twilio",
            "provider_id": "SM0123",
            "latency_seconds": 2.5,
            "cost": {"amount": "0.0075", "currency": "USD"},
        }
    ],
}
DELIVERY: dict[str, Any] = {
    "page_id": PAGE_ID,
    "endpoint_id": ENDPOINT_ID,
    "told": "endpoint crisis room",
    "message_type": "alert.released",
    "state": "due",
    "created_at": "2026-10-01T08:00:00Z",
    "delivered_at": None,
    "next_attempt_at": "2026-10-01T08:00:02Z",
    "attempts_made": 1,
    "attempts": [TRIED],
}
DELIVERED = DELIVERY | {"state": "done", "delivered_at": "2026-10-01T08:00:01Z", "next_attempt_at": None}


def test_a_ping_says_what_became_of_it(server: Canned, run: Callable[..., Result]) -> None:
    """The result is waited for: done if the endpoint took it, refused with the reason if not."""
    taken = {"attempts": [TRIED | {"state": "delivered", "reason": "accepted", "detail": "HTTP 204"}]}
    server.answers |= {
        f"POST /v1/endpoints/{ENDPOINT_ID}/ping": (202, {"page_id": PAGE_ID}),
        f"GET /v1/deliveries/{PAGE_ID}": (200, DELIVERED | taken),
    }
    result = run("webhook", "ping", ENDPOINT_ID)
    assert result.exit_code == 0, result.output
    assert "took the test message: delivered · accepted · HTTP 204, 20 ms." in result.stdout
    server.answers[f"GET /v1/deliveries/{PAGE_ID}"] = (200, DELIVERED | {"delivered_at": None})
    result = run("webhook", "ping", ENDPOINT_ID)
    assert result.exit_code == Exit.REFUSED
    assert "failed · http_status · HTTP 503" in result.stderr


def test_pages_show_every_try_with_provider_time_and_cost(server: Canned, run: Callable[..., Result]) -> None:
    """Each try with state, reason, provider and id, hand-over, arrival and cost; what is due, when. JSON has all."""
    heading = {
        "id": ALERT_ID,
        "alert": {"reference": "RP-CA-2026-0001"},
        "partner": "GB",
        "kind": "answer",
        "subject_partner": None,
        "state": "notified",
    }
    server.answers |= {
        "GET /v1/board": (
            200,
            {"escalations": [heading | {"alert": {"reference": "RP-CA-2026-0001", "id": ALERT_ID}}]},
        ),
        "GET /v1/escalations": (200, {"items": [heading], "next_cursor": None}),
        f"GET /v1/escalations/{ALERT_ID}": (200, heading | {"pages": [PAGE]}),
    }
    result = run("pages", "RP-CA-2026-0001", "--partner", "gb")
    assert result.exit_code == 0, result.output
    for part in ("RP-CA-2026-0001 · GB · notified", "delivered · accepted", "0.02 s", "2.50 s", "0.0075 USD", "due"):
        assert part in result.stdout, part
    assert "twilio SM0123" in result.stdout
    assert "\x1b[31m" not in result.stdout
    [shown] = run("pages", "RP-CA-2026-0001", "--json").stdout.splitlines()
    assert json.loads(shown)["pages"] == [PAGE]
    server.answers["GET /v1/escalations"] = (200, {"items": [], "next_cursor": None})
    assert "Nobody whom you may see" in run("pages", "RP-CA-2026-0001").stdout


def test_deliveries_are_listed_with_their_last_attempt(server: Canned, run: Callable[..., Result]) -> None:
    """Options become the query; each message shows what came of it and what comes next."""
    server.answers["GET /v1/deliveries"] = (200, {"items": [DELIVERY], "next_cursor": None})
    result = run("deliveries", "list", "--undelivered", "--state", "due", "--endpoint", ENDPOINT_ID)
    assert result.exit_code == 0, result.output
    assert "HTTP 503" in result.stdout
    assert PAGE_ID in result.stdout


HEARTBEAT = {
    "id": ENDPOINT_ID,
    "kind": "endpoint",
    "partner": "CA",
    "channel": "webhook",
    "provider": None,
    "told": "Crisis \x1b[31mdesk",
    "state": "answering",
    "last_beat_at": "2026-10-01T08:00:00Z",
    "ended_at": "2026-10-01T08:00:00Z",
    "waits": False,
    "answered_at": "2026-10-01T08:00:00Z",
    "answer_milliseconds": 84,
    "reason": None,
    "failures": 0,
    "failing_since_at": None,
    "certificate_valid_until": "2026-12-24T12:00:00Z",
    "next_beat_at": "2026-10-01T09:00:00Z",
}
FAILING = HEARTBEAT | {"state": "failing", "reason": "HTTP 503", "answer_milliseconds": None, "failures": 2}


def test_heartbeats_are_listed(server: Canned, run: Callable[..., Result]) -> None:
    """Each path with its state, what its last beat came to, and its certificate's end; the options become the query."""
    server.answers["GET /v1/heartbeats"] = (200, {"items": [HEARTBEAT, FAILING], "next_cursor": None})
    result = run("heartbeat", "list", "--failing", "--partner", "ca")
    assert result.exit_code == 0, result.output
    for part in ("answering", "failing", "answered in 84 ms", "HTTP 503", "24 Dec", ENDPOINT_ID):
        assert part in result.stdout, part
    assert "\x1b[31m" not in result.stdout
    assert len(run("heartbeat", "list", "--json").stdout.splitlines()) == 2


def test_a_heartbeat_now_says_what_became_of_it(server: Canned, run: Callable[..., Result]) -> None:
    """It waits for the end of the beat: done if it was answered, refused with the reason if not."""
    path = f"/v1/heartbeats/{ENDPOINT_ID}"
    ended = {"ended_at": "2026-10-01T08:05:00Z", "last_beat_at": "2026-10-01T08:05:00Z"}
    server.answers |= {f"POST {path}": (202, HEARTBEAT), f"GET {path}": (200, HEARTBEAT | ended)}
    result = run("heartbeat", "now", ENDPOINT_ID)
    assert result.exit_code == 0, result.output
    assert "answered in 84 ms" in result.stdout
    server.answers[f"GET {path}"] = (200, FAILING | ended)
    result = run("heartbeat", "now", ENDPOINT_ID)
    assert result.exit_code == Exit.REFUSED
    assert "fails: HTTP 503" in result.stderr
    out = {"waits": True, "last_beat_at": "2026-10-01T08:05:00Z"}
    server.answers[f"GET {path}"] = (200, FAILING | out)
    result = run("heartbeat", "now", ENDPOINT_ID)
    assert (result.exit_code, "on its way back" in result.stdout) == (0, True)


def test_doctor_names_failing_heartbeats(server: Canned, run: Callable[..., Result]) -> None:
    """A path that fails comes with its reason and with what to do."""
    server.answers |= {
        "GET /healthz": (200, {"status": "alive"}),
        "GET /readyz": (200, {"status": "ready", "checks": {}}),
        "GET /v1/partners": (200, {"items": [{"code": "CA"}], "next_cursor": None}),
        "GET /v1/heartbeats": (200, {"items": [FAILING], "next_cursor": None}),
    }
    result = run("doctor", "--json")
    (found,) = [line for line in map(json.loads, result.stdout.splitlines()) if line["check"] == "Heartbeats"]
    assert (found["verdict"], "HTTP 503" in found["said"]) == ("wrong", True)
    assert found["todo"].endswith(f"redphone heartbeat now {ENDPOINT_ID}")


def test_doctor_names_in_one_line_who_has_nobody_on_call(server: Canned, run: Callable[..., Result]) -> None:
    """The secretariat learns of all partners, others of their own; no alarm is no line."""
    ready = {
        "GET /healthz": (200, {"status": "alive"}),
        "GET /readyz": (200, {"status": "ready", "checks": {}}),
        "GET /v1/partners": (200, {"items": [{"code": "CA"}], "next_cursor": None}),
    }

    def said() -> list[str]:
        found = [json.loads(line) for line in run("doctor", "--json").stdout.splitlines()]
        return [line["said"] for line in found if line["check"] == "Readiness"]

    every = [{"partner": code, "alarms": alarms} for code, alarms in (("CA", 0), ("ES", 2), ("NZ", 1))]
    server.answers |= ready | {"GET /v1/readiness": (200, {"items": every, "next_cursor": None})}
    assert said() == ["nobody is on call at some time within 24 hours: ES; NZ"]
    server.answers["GET /v1/readiness"] = (403, problem("role_missing", 403, "this needs a role"))
    server.answers["GET /v1/partners/CA/readiness"] = (200, {"alarms": 1})
    assert said() == ["nobody is on call at some time within 24 hours: CA"]
    server.answers["GET /v1/partners/CA/readiness"] = (200, {"alarms": 0})
    assert said() == []


def test_doctor_names_providers_without_a_loop_back(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an installation's machine it says what carries messages to people and is not tried."""
    monkeypatch.setenv("REDPHONE_PUBLIC_URL", "https://redphone.example")
    monkeypatch.setenv("REDPHONE_EMAIL_SMTP_URL", "smtp://mail.example")
    monkeypatch.setenv("REDPHONE_EMAIL_FROM", "redphone@alerts.example")

    def findings() -> list[dict[str, str]]:
        lines = run("doctor", "--json").stdout.splitlines()
        return [line for line in map(json.loads, lines) if line.get("check") == "Loop-backs"]

    (found,) = findings()
    assert (found["verdict"], "e-mail" in found["said"]) == ("look", True)
    monkeypatch.setenv("REDPHONE_LOOPBACK_EMAIL", "loopback@alerts.example")
    assert findings() == []


def test_a_delivery_is_shown_with_its_body(server: Canned, run: Callable[..., Result]) -> None:
    """The body that was signed, or that it is not shown to this role."""
    server.answers[f"GET /v1/deliveries/{PAGE_ID}"] = (200, DELIVERY | {"body": '{"type":"alert.released"}'})
    assert '{"type":"alert.released"}' in run("deliveries", "show", PAGE_ID).stdout
    server.answers[f"GET /v1/deliveries/{PAGE_ID}"] = (200, DELIVERY | {"body": None})
    assert "not shown to your role" in run("deliveries", "show", PAGE_ID).stdout


def test_one_message_or_a_range_is_replayed(server: Canned, run: Callable[..., Result]) -> None:
    """One by its id; a range is followed to its end; half of a range is a wrong command line."""
    one = {"page_ids": [PAGE_ID], "on_their_way": 1, "continue_from": None}
    server.answers |= {
        f"POST /v1/deliveries/{PAGE_ID}/replay": (202, one),
        f"POST /v1/endpoints/{ENDPOINT_ID}/replay": (202, one | {"continue_from": "2026-10-01T09:00:00Z"}),
    }
    assert "1 message is sent again; 1 on the way already." in run("deliveries", "replay", PAGE_ID).stdout
    span = ("--endpoint", ENDPOINT_ID, "--from", "2026-10-01T08:00:00Z", "--to", "2026-10-02T08:00:00Z")
    result = run("deliveries", "replay", *span)
    assert "2 messages are sent again" in result.stdout, result.output
    sent = [json.loads(body)["from"] for _, body in server.sent_to(f"POST /v1/endpoints/{ENDPOINT_ID}/replay")]
    assert sent == ["2026-10-01T08:00:00Z", "2026-10-01T09:00:00Z"]
    assert run("deliveries", "replay", *span[:4]).exit_code == Exit.USAGE
    assert run("deliveries", "replay").exit_code == Exit.USAGE


# --- line tests -------------------------------------------------------------------------------------------------------

LINE_TEST_PLAN: dict[str, Any] = {
    "enabled": True,
    "partners": None,
    "switched_by": "Sasha Example",
    "switched_at": "2026-10-01T08:00:00Z",
    "version": 8,
    "months": [
        {"partner": "GB", "month": "2026-11", "this_month": "done"},
        {"partner": "NZ", "month": None, "this_month": "zone_unknown"},
    ],
}
LINE_TEST: dict[str, Any] = {
    "id": ENDPOINT_ID,
    "partner": "GB",
    "kind": "working_day",
    "alert_id": ENDPOINT_ID,
    "reference": "RP-XR-2026-0007",
    "planned_at": None,
    "started_at": "2026-10-01T08:00:00Z",
    "answer_by_at": "2026-10-01T08:30:00Z",
    "acknowledged_at": "2026-10-01T08:04:10Z",
    "seconds": 250.0,
    "level": 1,
    "outcome": "answered",
    "stop_reason": None,
    "ended_at": "2026-10-01T08:05:10Z",
}


def test_the_line_test_plan_is_switched_with_what_was_read(server: Canned, run: Callable[..., Result]) -> None:
    """It is read first, so that nobody else's switch is overwritten; shown are months and no times."""
    path = "/v1/line-test-plan"
    server.answers |= {
        f"GET {path}": (200, LINE_TEST_PLAN | {"enabled": False, "months": []}),
        f"PUT {path}": (200, LINE_TEST_PLAN),
    }
    assert "off" in run("line-test", "plan").stdout
    result = run("line-test", "plan", "--on", "--partner", "gb", "--partner", "nz")
    assert result.exit_code == 0, result.output
    for part in ("GB", "2026-11", "done", "zone unknown"):
        assert part in result.stdout, part
    [(headers, body)] = server.sent_to(f"PUT {path}")
    assert (headers["If-Match"], json.loads(body)) == ('"7"', {"enabled": True, "partners": ["GB", "NZ"]})
    for wrong in (["--on", "--off"], ["--off", "--partner", "GB"]):
        assert run("line-test", "plan", *wrong).exit_code == Exit.USAGE
    assert len(server.sent_to(f"PUT {path}")) == 1


def test_line_tests_are_listed_and_reported(server: Canned, run: Callable[..., Result]) -> None:
    """Each test with its kind, outcome and time to answer; the report by partner and kind."""
    others: list[dict[str, Any]] = [
        {"outcome": None, "seconds": None, "acknowledged_at": None, "ended_at": None},
        {"outcome": "stopped", "stop_reason": "actual_alert", "seconds": None},
    ]
    found = [LINE_TEST, *(LINE_TEST | other for other in others)]
    summary = {
        "partner": "GB",
        "kind": "night",
        "tests": 4,
        "answered": 3,
        "unanswered": 1,
        "stopped": 0,
        "median_seconds": 250.0,
        "p90_seconds": None,
    }
    server.answers |= {
        "GET /v1/line-tests": (200, {"items": found, "next_cursor": None}),
        "GET /v1/line-tests/report": (200, {"items": [summary]}),
    }
    listed = run("line-test", "list", "--partner", "gb")
    assert listed.exit_code == 0, listed.output
    for part in ("RP-XR-2026-0007", "working day", "4 min 10 s", "answered", "running", "stopped: actual alert"):
        assert part in listed.stdout, part
    assert len(run("line-test", "list", "--json").stdout.splitlines()) == 3
    report = run("line-test", "report", "--from", "2026-01-01T00:00:00Z")
    assert report.exit_code == 0, report.output
    assert "4 min 10 s" in report.stdout


def test_a_line_test_now_is_asked_for_once(server: Canned, run: Callable[..., Result]) -> None:
    """With a key, so that a lost answer wakes nobody twice."""
    server.answers["POST /v1/line-tests"] = (202, LINE_TEST | {"outcome": None})
    result = run("line-test", "now", "gb")
    assert result.exit_code == 0, result.output
    assert "RP-XR-2026-0007 is on its way to GB" in result.stdout
    [(headers, body)] = server.sent_to("POST /v1/line-tests")
    assert json.loads(body) == {"partner": "GB"}
    assert headers["Idempotency-Key"]


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_are_changed_in_three_steps(run: Callable[..., Result], tmp_path: Path) -> None:
    """Added behind, promoted, the old one dropped; nothing secret is shown, and each step says to restart."""
    path = tmp_path / "keys.json"
    KeyRing.generate().save(path)
    there = ("--data-dir", str(tmp_path))
    old = json.loads(run("keys", "list", "--json", *there).stdout.splitlines()[1])
    assert (old["kind"], old["signs"]) == ("webhook", True)
    added = run("keys", "add", "webhook", *there)
    assert "verifies" in added.stdout
    assert "restart every service" in " ".join(added.stderr.split())
    new = KeyRing.load(path).public_keys()["webhook_keys"][1]["id"]
    assert run("keys", "drop", "webhook", old["id"], *there).exit_code == Exit.REFUSED
    assert json.loads(run("keys", "promote", "webhook", new, "--json", *there).stdout)["keys"] == [new, old["id"]]
    assert run("keys", "drop", "webhook", old["id"], *there).exit_code == 0
    assert [key["id"] for key in KeyRing.load(path).public_keys()["webhook_keys"]] == [new]
    rotated = run("keys", "rotate", "token", *there)
    assert "A new token key signs" in rotated.stdout
    shown = run("keys", "list", *there).stdout
    ring = json.loads(path.read_text())
    assert not any(secret in shown for kind in ("token_keys", "webhook_keys", "storage_keys") for secret in ring[kind])


def test_keys_in_a_variable_have_no_file(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do instead is said, and the variable is not repeated; a missing file is not made up."""
    monkeypatch.setenv("REDPHONE_KEYS", "very-secret")
    result = run("keys", "rotate", "webhook")
    assert result.exit_code == Exit.USAGE
    assert "REDPHONE_KEYS_FILE" in result.stderr
    assert "very-secret" not in result.output
    monkeypatch.delenv("REDPHONE_KEYS")
    monkeypatch.setenv("REDPHONE_KEYS_FILE", "missing.json")
    assert run("keys", "add", "feed").exit_code == Exit.REFUSED


# --- contact points ---------------------------------------------------------------------------------------------------

POINTS: list[dict[str, Any]] = [
    {
        "id": f"01900000-0000-7000-8000-00000000010{number}",
        "channel": channel,
        "address": address,
        "label": None,
        "delay_seconds": delay_seconds,
        "verified_at": verified_at,
        "confirmed_at": verified_at,
        "failing": None,
    }
    for number, (channel, address, delay_seconds, verified_at) in enumerate(
        [("sms", "+16135550101", 0, "2026-10-01T08:00:00Z"), ("voice", "+16135550101", 120, None)], start=1
    )
]
OWN = "/v1/me/contact-points"
VERIFICATION = f"/v1/contact-points/{POINTS[1]['id']}/verification"
CODE_SENT = {"stage": "code_sent", "code_valid_until": "2026-10-01T08:30:00Z"}


def test_points_are_listed_with_what_is_known_of_them(server: Canned, run: Callable[..., Result]) -> None:
    """Number, address, delay, and whether it is verified."""
    server.answers[f"GET {OWN}"] = (200, {"items": POINTS})
    result = run("points", "list")
    assert result.exit_code == 0, result.output
    assert "2 min 00 s" in result.stdout
    assert "not verified" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["add", "email", "a@ca.example"], [0, 1, {"channel": "email", "address": "a@ca.example", "label": None}]),
        (["change", "2", "--delay", "60"], [0, {"delay_seconds": 60}]),
        (["remove", str(POINTS[0]["id"])], [1]),
    ],
)
def test_points_are_edited_as_a_whole(
    server: Canned, run: Callable[..., Result], words: list[str], expected: list[Any]
) -> None:
    """What stays is sent by its id, without its address, under the version that was read."""
    server.answers |= {f"GET {OWN}": (200, {"items": POINTS}), f"PUT {OWN}": (200, {})}
    result = run("points", *words)
    assert result.exit_code == 0, result.output
    ((headers, body),) = server.sent_to(f"PUT {OWN}")
    kept = [{name: point[name] for name in ("id", "channel", "label", "delay_seconds")} for point in POINTS]
    wanted = [
        kept[one] if isinstance(one, int) else (one if "channel" in one else kept[place] | one)
        for place, one in enumerate(expected)
    ]
    assert headers["If-Match"] == '"7"'
    assert json.loads(body) == {"points": wanted}


def test_a_point_is_verified_by_its_code(server: Canned, run: Callable[..., Result]) -> None:
    """Without a code one is asked for; with it, it is returned, however it was typed."""
    server.answers |= {
        f"GET {OWN}": (200, {"items": POINTS}),
        f"POST {VERIFICATION}": (200, CODE_SENT),
        f"POST {VERIFICATION}/code": (200, {"stage": "verified"}),
    }
    asked = run("points", "verify", "2")
    assert (asked.exit_code, "--code" in asked.stdout) == (0, True), asked.output
    done = run("points", "verify", "2", "--code", "482 913")
    assert done.exit_code == 0, done.output
    ((_, body),) = server.sent_to(f"POST {VERIFICATION}/code")
    assert json.loads(body) == {"code": "482913"}


def test_a_point_that_nobody_has_is_refused(server: Canned, run: Callable[..., Result]) -> None:
    """A number beyond the list is named, with where to look."""
    server.answers[f"GET {OWN}"] = (200, {"items": POINTS})
    result = run("points", "confirm", "3")
    assert result.exit_code == Exit.REFUSED
    assert "points list" in result.stderr


def test_all_points_are_confirmed(server: Canned, run: Callable[..., Result]) -> None:
    """Each of them is confirmed by itself."""
    server.answers[f"GET {OWN}"] = (200, {"items": POINTS})
    server.answers |= {f"POST {OWN}/{point['id']}/confirmation": (200, {}) for point in POINTS}
    assert run("points", "confirm").exit_code == 0
    assert sum(call.endswith("/confirmation") for call, _, _ in server.asked) == 2


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_is_content(server: Canned, run: Callable[..., Result]) -> None:
    """Where all is well, doctor says so and ends with 0."""
    answering = {"levels": [{"level": 1, "targets": [{"kind": "rota", "nobody": False}]}]}
    server.answers |= {
        "GET /healthz": (200, {"status": "alive"}),
        "GET /readyz": (200, {"ready": True, "checks": {"roster.database": {"ok": True, "detail": None}}}),
        "GET /v1/partners": (200, {"items": PARTNERS[:1], "next_cursor": None}),
        "GET /v1/partners/CA/on-call": (200, answering),
    }
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "All is well." in result.stdout


@pytest.mark.parametrize(("heartbeat", "verdict"), [(None, "look"), ("https://watchdog.example/hidden", "ok")])
def test_doctor_says_whether_anybody_outside_watches(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, heartbeat: str | None, verdict: str
) -> None:
    """On an installation's machine it says whether silence would be noticed, and how to have it noticed."""
    monkeypatch.setenv("REDPHONE_PUBLIC_URL", "https://redphone.example")
    if heartbeat is not None:
        monkeypatch.setenv("REDPHONE_HEARTBEAT_URL", heartbeat)
    result = run("doctor", "--json")
    (found,) = [line for line in map(json.loads, result.stdout.splitlines()) if line["check"] == "Heartbeat"]
    assert found["verdict"] == verdict
    assert ("docs/silence.md" in found["todo"]) == (verdict == "look")
    assert "hidden" not in result.stdout


@pytest.mark.parametrize(
    ("goal", "sent"),
    [
        ("8/15m", {"partners": 8, "within_seconds": 900}),
        ("3/90s", {"partners": 3, "within_seconds": 90}),
        ("20 / 2H", {"partners": 20, "within_seconds": 7200}),
    ],
)
def test_a_coverage_goal_is_said_as_people_say_it(
    server: Canned, run: Callable[..., Result], goal: str, sent: dict[str, int]
) -> None:
    """So many partners within so much time, in seconds, minutes or hours; what says nothing is refused."""
    server.answers["POST /v1/alerts"] = (201, {**ALERT, "coverage_goal": sent})
    result = run(*RAISE, "--goal", goal)
    assert result.exit_code == 0, result.output
    assert f"{sent['partners']} of" in result.stdout
    [(_, body)] = server.sent_to("POST /v1/alerts")
    assert json.loads(body)["coverage_goal"] == sent
    for wrong in ("8", "8/15", "0/15m", "8/15d", "all/15m"):
        refused = run(*RAISE, "--goal", wrong)
        assert refused.exit_code == Exit.USAGE
        assert "8/15m" in refused.output


def test_doctor_names_what_is_wrong_and_what_to_do(server: Canned, run: Callable[..., Result]) -> None:
    """A failing check, a degraded one, and a partner without anybody on call each come with a remedy; exit code 6."""
    server.answers |= {
        "GET /healthz": (200, {"status": "alive"}),
        "GET /readyz": (
            503,
            {
                "ready": False,
                "checks": {
                    "roster.database": {"ok": False, "detail": "the database lacks migrations: run the deploy step"},
                    "roster.bus": {"ok": True, "degraded": True, "detail": "the broker does not answer"},
                },
            },
        ),
        "GET /v1/partners": (200, {"items": PARTNERS[:2], "next_cursor": None}),
        "GET /v1/partners/CA/on-call": (200, {"levels": []}),
        "GET /v1/partners/US/on-call": (200, {"levels": [{"level": 1, "targets": [{"nobody": True}]}]}),
    }
    result = run("doctor", "--json")
    found = {line["check"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == Exit.UNHEALTHY
    assert (found["roster.database"]["verdict"], found["roster.database"]["todo"]) == ("wrong", "Run: redphone deploy")
    assert found["roster.bus"]["verdict"] == "look"
    assert (found["CA"]["verdict"], found["CA"]["said"]) == ("wrong", "has no escalation policy")
    assert (found["US"]["verdict"], found["US"]["said"]) == ("wrong", "nobody is on call now at level 1 of 1")
    assert all(line["todo"] for line in found.values() if line["verdict"] != "ok")


def test_doctor_names_who_is_badly_reached(server: Canned, run: Callable[..., Result]) -> None:
    """One provider only, unverified points, points nobody has confirmed for long, and numbers that nobody has."""
    hard = {"failures": 1, "reason": "address_unknown", "hard": True, "since_at": "2026-10-01T08:00:00Z"}
    ann = {"name": "Ann", "points": [{**POINTS[0], "verified_at": "2021-01-01T00:00:00Z", "confirmed_at": None}]}
    old_mail = {**POINTS[0], "channel": "email", "confirmed_at": "2021-01-01T00:00:00Z"}
    ben = {"name": "Ben", "points": [{**POINTS[1], "failing": hard}, old_mail]}
    server.answers |= {
        "GET /healthz": (200, {"status": "alive"}),
        "GET /readyz": (200, {"ready": True, "checks": {}}),
        "GET /v1/partners": (200, {"items": PARTNERS[:1], "next_cursor": None}),
        "GET /v1/partners/CA/on-call": (200, {"levels": [{"level": 1, "targets": [{"nobody": False}]}]}),
        "GET /v1/partners/CA/contacts": (200, {"items": [ann, ben]}),
        "GET /v1/partners/CA/offices": (200, {"items": []}),
        "GET /v1/partners/CA/endpoints": (200, {"items": []}),
    }
    result = run("doctor", "--json")
    found = {line["check"]: (line["verdict"], line["said"]) for line in map(json.loads, result.stdout.splitlines())}
    assert found["One way only"] == ("look", "Ann")
    assert found["Not verified"] == ("look", "Ben, voice")
    assert found["Not confirmed"] == ("look", "Ann, sms; Ben, email")
    assert found["Unreachable"][0] == "wrong"


def test_doctor_without_a_server(run: Callable[..., Result], free_port: int) -> None:
    """Where nobody answers, doctor says how to start it, and what it found on this machine all the same."""
    result = run("doctor", "--url", f"http://127.0.0.1:{free_port}")
    assert result.exit_code == Exit.UNHEALTHY
    assert "Start it: redphone up" in result.stdout
    assert "Python" in result.stdout


def test_doctor_names_a_misspelt_setting(
    server: Canned, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that nothing reads is found before somebody wonders why it does nothing."""
    monkeypatch.setenv("REDPHONE_NATS_ULR", "nats://secret@host")
    result = run("doctor")
    assert "REDPHONE_NATS_ULR" in result.stdout
    assert "secret@host" not in result.output
    assert server.asked


# --- readiness --------------------------------------------------------------------------------------------------------

FINDING: dict[str, Any] = {
    **dict.fromkeys(("level", "other_rota", "office", "reason", "name", "title", "endpoint", "channel", "address")),
    "code": "uncovered",
    "severity": "alarm",
    "begins_at": "2026-11-02T09:00:00Z",
    "ends_at": "2026-11-02T10:00:00Z",
    "rota": "Duty officers",
    "remedy": "Put somebody on call.",
}
READINESS: dict[str, Any] = {
    "partner": "CA",
    "proved_at": "2026-11-02T08:00:00Z",
    "from_at": "2026-11-02T08:00:00Z",
    "to_at": "2026-11-16T08:00:00Z",
    "score": 63,
    "alarms": 1,
    "blocking": 0,
    "warnings": 0,
    "findings": [FINDING],
    "omitted": 0,
    "history": [
        {"day": f"2026-11-{day:02d}", "score": score, "lowest": score, "alarms": alarms, "blocking": 0, "warnings": 0}
        for day, score, alarms in ((1, 0, 1), (2, 50, 0), (3, 100, 0))
    ],
}


def test_readiness_shows_what_is_missing_and_ends_with_six(server: Canned, run: Callable[..., Result]) -> None:
    """One's own government unless another is named; an alarm is an exit code that a script can wait for."""
    server.answers["GET /v1/partners/CA/readiness"] = (200, READINESS)
    result = run("readiness", "--history")
    assert result.exit_code == Exit.UNHEALTHY
    for shown in ("63", "alarm", "uncovered", "Duty officers", "Put somebody on call.", "▁▅█", "lowest 0, now 100"):
        assert shown in result.stdout, shown
    assert json.loads(run("readiness", "ca", "--json").stdout) == READINESS


def test_readiness_without_an_alarm_is_no_failure(server: Canned, run: Callable[..., Result]) -> None:
    """What blocks or warns is shown and ends with 0; nothing found says so."""
    sound = READINESS | {"alarms": 0, "score": 100, "findings": []}
    server.answers["GET /v1/partners/CA/readiness"] = (200, sound)
    result = run("readiness")
    assert (result.exit_code, "Nothing is missing." in result.stdout) == (0, True)


def test_the_secretariat_sees_all_at_one_glance(server: Canned, run: Callable[..., Result]) -> None:
    """A row per partner with score, counts and the holes of the coming day."""
    hole = {"rota": "Duty officers", "begins_at": "2026-11-02T09:00:00Z", "ends_at": "2026-11-02T10:00:00Z"}
    items = [
        {"partner": "CA", "office": "Watch", "proved_at": None, "score": 63, "alarms": 1, "blocking": 2, "warnings": 3}
        | {"holes": [hole]},
        {"partner": "NZ", "office": None, "proved_at": None, "score": None, "alarms": 0, "blocking": 0, "warnings": 0}
        | {"holes": []},
    ]
    server.answers["GET /v1/readiness"] = (200, {"items": items, "next_cursor": None})
    result = run("readiness", "all")
    assert result.exit_code == Exit.UNHEALTHY
    assert [line.split()[0] for line in result.stdout.splitlines() if line.startswith(("CA", "NZ"))] == ["CA", "NZ"]
    assert "Duty officers from" in result.stdout


# --- files ------------------------------------------------------------------------------------------------------------


def test_saved_credentials_are_merged_and_private(tmp_path: Path) -> None:
    """Saving adds to what is there, replaces what has the same name, and closes the file to others."""
    path = tmp_path / "secrets.json"
    files.save_credentials(path, [files.SavedCredential("a", "1"), files.SavedCredential("b", "2")])
    files.save_credentials(path, [files.SavedCredential("b", "3")])
    found = files.load_credentials(path)
    assert {name: saved.client_secret for name, saved in found.items()} == {"a": "1", "b": "3"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_of_credentials_is_named(tmp_path: Path) -> None:
    """A file that holds something else is refused in one sentence."""
    path = tmp_path / "secrets.json"
    path.touch(mode=0o600)
    path.write_text("[]")
    with pytest.raises(Failed, match="damaged"):
        files.load_credentials(path)


def test_nobody_holds_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """Asking who holds a directory makes nothing and fails nowhere."""
    assert files.holder_of(tmp_path / "nowhere") is None
    assert list(tmp_path.iterdir()) == []
