from __future__ import annotations

import stat
from ipaddress import ip_network
from pathlib import Path

import pytest

from shared.chat_urls import SCHEMAS_DEFAULT
from shared.contracts import ChannelName
from shared.keys import KeyRing, KeysUnusable
from shared.settings import SettingsWrong, load


def mistakes(environment: dict[str, str]) -> list[str]:
    """The sentences with which an environment is refused."""
    with pytest.raises(SettingsWrong) as refusal:
        load(environment)
    return refusal.value.mistakes


def test_nothing_set_is_a_whole_system_on_this_machine() -> None:
    """Without any variable: loopback only, every partner, every channel, embedded servers, production rules."""
    settings = load({})
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.database_url_of("roster") is None
    assert settings.nats_url is None
    assert settings.serves("CA")
    assert settings.channels == frozenset(ChannelName)
    assert not settings.development
    assert not settings.extra_networks


def test_reads_what_people_write() -> None:
    """Lists are separated by commas or spaces, names may be in lower case, and empty variables count as not set."""
    settings = load(
        {
            "REDPHONE_PARTNERS": "CA, NL",
            "REDPHONE_EXTRA_NETWORKS": "10.1.0.0/16 fd00::/8",
            "REDPHONE_CHANNELS": "webhook,sms",
            "REDPHONE_DEVELOPMENT": "1",
            "REDPHONE_LOG_LEVEL": "debug",
            "REDPHONE_ROSTER_DATABASE_URL": "postgresql://roster@db/roster",
            "REDPHONE_FEED_ROSTER_URL": "https://roster.example/",
            "REDPHONE_NATS_URL": "",
            "redphone_port": "0",
            "HOME": "/nowhere",
        }
    )
    assert (settings.serves("NL"), settings.serves("DE")) == (True, False)
    assert settings.extra_networks == {ip_network("10.1.0.0/16"), ip_network("fd00::/8")}
    assert settings.channels == {ChannelName.WEBHOOK, ChannelName.SMS}
    assert settings.development
    assert settings.log_level == "DEBUG"
    assert settings.database_url_of("roster") == "postgresql://roster@db/roster"
    assert settings.feed_url_of("roster") == "https://roster.example"
    assert settings.feed_url_of("alerting") is None
    assert settings.nats_url is None
    assert settings.port == 0


def test_command_line_wins() -> None:
    """An option of the command line replaces the variable; an option that was not given does not."""
    assert load({"REDPHONE_PORT": "1"}, port=2, host=None).port == 2


def test_client_variables_may_stand_beside() -> None:
    """What the command line's client reads is no mistake for a server that starts in the same shell."""
    assert load({"REDPHONE_URL": "http://127.0.0.1:8000", "REDPHONE_CLIENT_SECRET": "rps_x"}).port == 8000


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("REDPHONE_PORT", "70000", "must be less than or equal to 65535"),
        ("REDPHONE_PORT", "http", "valid integer"),
        ("REDPHONE_DATABASE_URL", "mysql://user:secret@db/x", "must begin with postgresql://"),
        ("REDPHONE_NATS_URL", "http://secret", "must begin with nats://"),
        ("REDPHONE_PUBLIC_URL", "https://secret.example/path", "scheme, host and port only"),
        ("REDPHONE_PUBLIC_URL", "secret.example", "must begin with http://"),
        ("REDPHONE_PARTNERS", "CA,canada-secret", "two capital letters"),
        ("REDPHONE_EXTRA_NETWORKS", "10.0.0.1/8", "must be networks like"),
        ("REDPHONE_CHANNELS", "webhook,fax-secret", "must be 'webhook'"),
        ("REDPHONE_DEVELOPMENT", "secret", "must be a valid boolean"),
        ("REDPHONE_LOG_LEVEL", "secret", "must be 'DEBUG'"),
        ("REDPHONE_EMAIL_FROM", "secret", "must be one address"),
        ("REDPHONE_EMAIL_FROM", "secret@a.example\r\nBcc: b@c.example", "must be one address"),
        ("REDPHONE_EMAIL_REPLY_TO", "secret+tag@a.example", "must be one bare address without +"),
        ("REDPHONE_EMAIL_REPLY_TO", "Secret <secret@a.example>", "must be one bare address"),
        ("REDPHONE_EMAIL_INBOUND_KEY", "secret", "at least 16"),
    ],
)
def test_each_mistake_is_one_sentence(name: str, value: str, sentence: str) -> None:
    """A mistake names its variable and what would be right, and does not repeat the value."""
    (found,) = mistakes({name: value})
    assert found.startswith(f"{name} ")
    assert sentence in found
    assert "secret" not in found


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://secret", "must begin with smtp:// or smtps://"),
        ("smtp://", "must be smtp://name:password@host:port"),
        ("smtp://secret:99999", "must be smtp://name:password@host:port"),
        ("smtps://mail.example/secret", "must be smtp://name:password@host:port"),
    ],
)
def test_mail_server_mistakes(url: str, sentence: str) -> None:
    """A mail server is a scheme, a host and perhaps a name and port; the sentence repeats none of it."""
    (found,) = mistakes({"REDPHONE_EMAIL_SMTP_URL": url, "REDPHONE_EMAIL_FROM": "a@b.example"})
    assert found.startswith("REDPHONE_EMAIL_SMTP_URL ")
    assert sentence in found
    assert "secret" not in found


def test_mails_need_a_sender() -> None:
    """A mail server without an address that mails come from is half a configuration."""
    (found,) = mistakes({"REDPHONE_EMAIL_SMTP_URL": "smtps://name:hidden@mail.example"})
    assert found.startswith("REDPHONE_EMAIL_FROM is needed")
    settings = load(
        {
            "REDPHONE_EMAIL_SMTP_URL": "smtps://name:hidden@mail.example:4650",
            "REDPHONE_EMAIL_FROM": "Red Phone <redphone@alerts.example>",
            "REDPHONE_EMAIL_REPLY_TO": "reply@alerts.example",
            "REDPHONE_EMAIL_INBOUND_KEY": "hidden-hidden-hidden",
        }
    )
    assert settings.email_from == "Red Phone <redphone@alerts.example>"
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    "subject",
    [
        "secret",
        "http://a.example",
        "mailto:",
        "mailto:secret",
        "https://",
        "mailto:a@b.example x",
        "mailto:a@" + "b" * 300,
    ],
)
def test_push_needs_somebody_to_write_to(subject: str) -> None:
    """Push services are told an address of mail or web; other texts are refused and not repeated."""
    assert load({}).push_subject is None
    assert load({"REDPHONE_PUSH_SUBJECT": "mailto:a@b.example"}).push_subject == "mailto:a@b.example"
    assert load({"REDPHONE_PUSH_SUBJECT": "https://a.example/us"}).push_subject == "https://a.example/us"
    (found,) = mistakes({"REDPHONE_PUSH_SUBJECT": subject})
    assert found.startswith("REDPHONE_PUSH_SUBJECT must be")
    assert "secret" not in found


def test_a_heartbeat_goes_over_tls() -> None:
    """The address outside is a secret: it needs https unless in development, and is not repeated."""
    https, http = ({"REDPHONE_HEARTBEAT_URL": f"{scheme}://watchdog.example/hidden"} for scheme in ("https", "http"))
    assert load({}).heartbeat_url is None
    assert "hidden" not in repr(load(https))
    assert load({**http, "REDPHONE_DEVELOPMENT": "1"}).heartbeat_url is not None
    for wrong in (http, {"REDPHONE_HEARTBEAT_URL": "hidden"}):
        (found,) = mistakes(wrong)
        assert found.startswith("REDPHONE_HEARTBEAT_URL must begin with https://")
        assert "hidden" not in found


TELEPHONES = {
    "REDPHONE_PUBLIC_URL": "https://redphone.example",
    "REDPHONE_SMS_PROVIDERS": "twilio",
    "REDPHONE_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "REDPHONE_TWILIO_AUTH_TOKEN": "0" * 32,
    "REDPHONE_TWILIO_FROM": "+12025550100",
}


def test_loop_backs_are_numbers_of_providers_that_carry_something() -> None:
    """Pairs of provider and number, each provider once, and one that carries this channel here; never shown."""
    pair = {"REDPHONE_LOOPBACK_SMS": "twilio=+12025550170"}
    settings = load({**TELEPHONES, **pair})
    assert settings.loopback_sms == (("twilio", "+12025550170"),)
    assert "12025550170" not in repr(settings)
    for wrong, sentence in (
        ("+12025550170", "must be provider and number"),
        ("twilio=2025550170", "must be a telephone number"),
        ("nobody=+12025550170", "must be 'twilio' or 'telnyx'"),
        ("twilio=+12025550170,twilio=+12025550171", "must name each provider once"),
    ):
        (found,) = mistakes({**TELEPHONES, "REDPHONE_LOOPBACK_SMS": wrong})
        assert found.startswith(f"REDPHONE_LOOPBACK_SMS {sentence}")
        assert "2025550170" not in found
    assert mistakes({**TELEPHONES, "REDPHONE_LOOPBACK_VOICE": "twilio=+12025550170"}) == [
        "REDPHONE_LOOPBACK_VOICE names twilio, which REDPHONE_VOICE_PROVIDERS does not"
    ]
    assert mistakes(pair) == ["REDPHONE_LOOPBACK_SMS names twilio, which REDPHONE_SMS_PROVIDERS does not"]


def test_loop_backs_of_other_channels_need_their_channel() -> None:
    """A mailbox needs a mail server, a subscription a subject; each is an address that could be sent to."""
    assert mistakes({"REDPHONE_LOOPBACK_EMAIL": "loopback@alerts.example"}) == [
        "REDPHONE_EMAIL_SMTP_URL is needed for REDPHONE_LOOPBACK_EMAIL"
    ]
    (found,) = mistakes({"REDPHONE_LOOPBACK_EMAIL": "nobody"})
    assert found.startswith("REDPHONE_LOOPBACK_EMAIL must be one bare address")
    subject, push = mistakes({"REDPHONE_LOOPBACK_PUSH": "hidden"})
    assert subject == "REDPHONE_PUSH_SUBJECT is needed for REDPHONE_LOOPBACK_PUSH"
    assert push.startswith("REDPHONE_LOOPBACK_PUSH cannot be used: ")
    (chat,) = mistakes({"REDPHONE_LOOPBACK_CHAT": "ntfys://ntfy.example/hidden file:///hidden"})
    assert chat.startswith("REDPHONE_LOOPBACK_CHAT cannot be used: ")
    assert "hidden" not in push + chat
    rooms = load({"REDPHONE_LOOPBACK_CHAT": "ntfys://ntfy.example/hidden"})
    assert len(rooms.loopback_chat) == 1
    assert "hidden" not in repr(rooms)


def test_chat_services_are_known_ones() -> None:
    """By default all services over TLS are allowed; what reaches files, mail or programs cannot be configured."""
    assert load({}).chat_schemas == SCHEMAS_DEFAULT
    assert load({"REDPHONE_CHAT_SCHEMAS": "slack, matrixs"}).chat_schemas == {"slack", "matrixs"}
    for schema in ("file", "dbus", "syslog", "mailtos", "twilio", "jsons", "SLACK"):
        (found,) = mistakes({"REDPHONE_CHAT_SCHEMAS": f"slack {schema}"})
        assert found.startswith("REDPHONE_CHAT_SCHEMAS must be some of ")


def test_misspelt_variables_are_reported() -> None:
    """A variable that nothing reads is a mistake; where one is near, it is named."""
    near, far = mistakes({"REDPHONE_DATABSE_URL": "x", "REDPHONE_WHATEVER": "x"})
    assert near == "REDPHONE_DATABSE_URL is not a setting of Red Phone; did you mean REDPHONE_DATABASE_URL?"
    assert far.startswith("REDPHONE_WHATEVER is not a setting")


def test_all_mistakes_come_at_once() -> None:
    """Three mistakes are three sentences, so that nobody has to start three times."""
    assert len(mistakes({"REDPHONE_PORT": "x", "REDPHONE_PARTNERS": "x", "REDPHONE_PROT": "1"})) == 3


def test_secrets_are_not_shown() -> None:
    """Neither keys nor passwords in addresses appear when settings are printed."""
    shown = repr(load({"REDPHONE_KEYS": "hidden-1", "REDPHONE_DATABASE_URL": "postgresql://u:hidden-2@db/x"}))
    assert "hidden" not in shown


def test_keys_come_from_one_place(tmp_path: Path) -> None:
    """Keys are read from the variable or the named file, never from both; a named file is never made up."""
    ring = KeyRing.generate()
    ring.save(tmp_path / "named.json")
    named = {"REDPHONE_KEYS_FILE": str(tmp_path / "named.json")}
    given = {"REDPHONE_KEYS": ring.to_text()}
    assert load(named).keyring().to_text() == load(given).keyring().to_text() == ring.to_text()
    assert mistakes(named | given) == ["REDPHONE_KEYS and REDPHONE_KEYS_FILE are both set; keep one of them"]
    with pytest.raises(KeysUnusable):
        load({"REDPHONE_KEYS_FILE": str(tmp_path / "missing.json")}).keyring()


def test_keys_are_made_in_the_data_directory(tmp_path: Path) -> None:
    """With neither, the first start makes `keys.json` in the data directory, closed to others; the second reads it."""
    settings = load({"REDPHONE_DATA_DIR": str(tmp_path / "data")})
    first = settings.keyring()
    assert settings.keyring().to_text() == first.to_text()
    assert stat.S_IMODE((tmp_path / "data" / "keys.json").stat().st_mode) == 0o600
