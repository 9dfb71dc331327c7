"""Configuration: environment variables that begin with `REDPHONE_`, read once at start and never again.

`load` gives frozen settings or raises `SettingsWrong`, which names every mistake at once, each in one sentence: the
variable, what is wrong, and what would be right. A variable that nothing reads is a mistake as well, because a
misspelt one is otherwise silent. No sentence repeats a value: some of them are secrets.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
from collections.abc import Mapping
from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from shared.chat_urls import SCHEMAS, SCHEMAS_DEFAULT, check_chat_url
from shared.contracts import ChannelName
from shared.egress import policy_of
from shared.errors import Invalid, RedPhoneError
from shared.keys import KEY_FILE_NAME, KeyRing
from shared.push_subscription import read_subscription

PREFIX = "REDPHONE_"
SERVICES = ("alerting", "roster", "escalation", "console")
PORT_DEFAULT = 8000
PUSH_SUBJECT_CHARACTERS_MAX = 254
DATA_DIR_DEFAULT = Path(".redphone")

CLIENT_VARIABLES = ("REDPHONE_URL", "REDPHONE_CLIENT_ID", "REDPHONE_CLIENT_SECRET", "REDPHONE_TOKEN")
"""What the command line reads for itself; a server started from the same shell has nothing to say about them."""

ServiceName = Literal["alerting", "roster", "escalation", "console"]
Network = IPv4Network | IPv6Network


class SettingsWrong(RedPhoneError):
    """The configuration has mistakes; `mistakes` holds one sentence for each."""

    code = "settings_wrong"

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def _parts(value: object) -> object:
    """The parts of a list as people write it in one variable: separated by commas or spaces."""
    return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


def _url(*schemes: str, path_allowed: bool = True) -> AfterValidator:
    def check(value: SecretStr | str) -> SecretStr | str:
        parts = urlsplit(value.get_secret_value() if isinstance(value, SecretStr) else value)
        if parts.scheme not in schemes:
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        if not path_allowed and (parts.path not in ("", "/") or parts.query or parts.fragment or not parts.netloc):
            raise ValueError("must be scheme, host and port only, for example https://redphone.example")
        return value

    return AfterValidator(check)


def _partner_codes(value: frozenset[str]) -> frozenset[str]:
    for code in value:
        if len(code) != 2 or not code.isascii() or not code.isupper():
            raise ValueError("must be partner codes of two capital letters, for example CA,NL")
    return value


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return frozenset(ip_network(part) for part in value.replace(",", " ").split())
    except ValueError:
        raise ValueError("must be networks like 10.1.0.0/16 or fd00::/8, separated by commas") from None


def _push_subject(value: str) -> str:
    address = value.partition(":")[2].lstrip("/")
    if not value.startswith(("mailto:", "https://")) or not address.isascii() or not address.isprintable():
        raise ValueError("must be mailto:somebody@redphone.example or an https:// address (RFC 8292)")
    if value.startswith("mailto:") and not 0 < address.find("@") < len(address) - 1:
        raise ValueError("must be mailto:somebody@redphone.example or an https:// address (RFC 8292)")
    if not address or " " in address or len(value) > PUSH_SUBJECT_CHARACTERS_MAX:
        raise ValueError(f"must be one address of at most {PUSH_SUBJECT_CHARACTERS_MAX} characters")
    return value


def _chat_schemas(value: frozenset[str]) -> frozenset[str]:
    if not value <= SCHEMAS.keys():
        raise ValueError(f"must be some of {', '.join(SCHEMAS)}")
    return value


def _mail_server(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    try:
        has_address = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_address = False
    if not has_address or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be smtp://name:password@host:port, or smtps:// for TLS from the first byte")
    return value


def _mail_address(value: str) -> str:
    if not _MAIL_ADDRESS.fullmatch(parseaddr(value)[1]) or not value.isprintable():
        raise ValueError("must be one address, for example redphone@alerts.example")
    return value


def _bare_mail_address(value: str) -> str:
    if not _MAIL_ADDRESS.fullmatch(value) or "+" in value:
        raise ValueError("must be one bare address without +, for example reply@alerts.example")
    return value


def _loop_back_mail_address(value: str) -> str:
    if not _MAIL_ADDRESS.fullmatch(value):
        raise ValueError("must be one bare address, for example loopback@alerts.example")
    return value


def _shaped(pattern: str, sentence: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def _telephone_number(value: str) -> str:
    if not _TELEPHONE_NUMBER.fullmatch(value):
        raise ValueError("must be a telephone number with + and country code, for example +12025550100")
    return value


def _twilio_sender(value: str) -> str:
    if not (_TELEPHONE_NUMBER.fullmatch(value) or _MESSAGING_SERVICE.fullmatch(value) or _SENDER_NAME.fullmatch(value)):
        raise ValueError(
            "must be a number like +12025550100, a messaging service (MG…), or a name of at most 11 letters"
        )
    return value


def _provider_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK_HOSTS:
        raise ValueError("must begin with https://; http:// is only for a counterpart on this machine")
    return value.rstrip("/")


def _ed25519_public_key(value: str) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError("must be a public key of 32 bytes in base64, as the provider's portal shows it")
    return value


def _each_once(value: tuple[ProviderName, ...]) -> tuple[ProviderName, ...]:
    if len(set(value)) != len(value):
        raise ValueError("must name each provider once")
    return value


def _loop_backs(value: object) -> object:
    """Pairs of provider and number as people write them: `twilio=+12025550100,telnyx=+13125550100`."""
    if not isinstance(value, str):
        return value
    pairs = [tuple(part.split("=", 1)) for part in value.replace(",", " ").split()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("must be provider and number, for example twilio=+12025550100,telnyx=+13125550100")
    return tuple(pairs)


def _one_loop_back_each(value: tuple[tuple[ProviderName, str], ...]) -> tuple[tuple[ProviderName, str], ...]:
    _each_once(tuple(name for name, _ in value))
    return value


def _chat_urls(value: object) -> object:
    """Addresses separated by spaces: a comma may stand in one."""
    return tuple(value.split()) if isinstance(value, str) else value


DatabaseUrl = Annotated[SecretStr, _url("postgresql", "postgres", "postgresql+asyncpg")]
NatsUrl = Annotated[SecretStr, _url("nats", "tls")]
ServiceUrl = Annotated[str, _url("http", "https", path_allowed=False)]
ProviderName = Literal["twilio", "telnyx"]
LoopBacks = Annotated[
    tuple[tuple[ProviderName, Annotated[str, AfterValidator(_telephone_number)]], ...],
    NoDecode,
    BeforeValidator(_loop_backs),
    AfterValidator(_one_loop_back_each),
]
ProviderNames = Annotated[tuple[ProviderName, ...], NoDecode, BeforeValidator(_parts), AfterValidator(_each_once)]


LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
_TELEPHONE_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_MESSAGING_SERVICE = re.compile(r"MG[0-9a-f]{32}")
_SENDER_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*")


class Settings(BaseSettings):
    """Everything that a deployment decides. The names of the variables are these, in capitals, after `REDPHONE_`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    data_dir: Path = Field(default=DATA_DIR_DEFAULT, description="Where embedded servers and the key file live.")
    database_url: DatabaseUrl | None = Field(
        default=None, description="PostgreSQL to use in place of the embedded one; each service has a database there."
    )
    alerting_database_url: DatabaseUrl | None = Field(default=None, description="Alerting's own database.")
    roster_database_url: DatabaseUrl | None = Field(default=None, description="Roster's own database.")
    escalation_database_url: DatabaseUrl | None = Field(default=None, description="Escalation's own database.")
    console_database_url: DatabaseUrl | None = Field(default=None, description="The console's own database.")
    alerting_owner_database_url: DatabaseUrl | None = Field(default=None, description="The same for migrations.")
    roster_owner_database_url: DatabaseUrl | None = Field(default=None, description="The same for migrations.")
    escalation_owner_database_url: DatabaseUrl | None = Field(default=None, description="The same for migrations.")
    console_owner_database_url: DatabaseUrl | None = Field(default=None, description="The same for migrations.")
    nats_url: NatsUrl | None = Field(default=None, description="NATS to use in place of the embedded one.")
    public_url: ServiceUrl | None = Field(
        default=None, description="How people and partners reach this installation; stands in links and documents."
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(default=PORT_DEFAULT, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    keys_file: Path | None = Field(
        default=None, description="The installation's keys; by default in the data directory."
    )
    keys: SecretStr | None = Field(default=None, description="The keys themselves as JSON, in place of a file.")
    partners: Annotated[frozenset[str], NoDecode, BeforeValidator(_parts), AfterValidator(_partner_codes)] = Field(
        default=frozenset(), description="The partners that this escalation serves; none named means all."
    )
    feed_alerting_url: ServiceUrl | None = Field(default=None, description="Where alerting's feed is pulled from.")
    feed_roster_url: ServiceUrl | None = Field(default=None, description="Where roster's feed is pulled from.")
    feed_escalation_url: ServiceUrl | None = Field(default=None, description="Where escalation's feed is pulled from.")
    api_alerting_url: ServiceUrl | None = Field(
        default=None, description="Where the console calls alerting; left out, in its own process."
    )
    api_roster_url: ServiceUrl | None = Field(default=None, description="Where the console calls roster.")
    api_escalation_url: ServiceUrl | None = Field(default=None, description="Where the console calls escalation.")
    development: bool = Field(default=False, description="Allows http and loopback webhooks. Never in production.")
    extra_networks: Annotated[frozenset[Network], NoDecode, BeforeValidator(_networks)] = Field(
        default=frozenset(), description="Networks of one's own that webhooks may reach although they are not public."
    )
    channels: Annotated[frozenset[ChannelName], NoDecode, BeforeValidator(_parts)] = Field(
        default=frozenset(ChannelName), description="The channels that may send; those without a sender stay unused."
    )
    heartbeat_url: Annotated[SecretStr, _url("https", "http")] | None = Field(
        default=None, description="Asked every minute while all is well; who watches there alarms when nothing comes."
    )
    push_subject: Annotated[str, AfterValidator(_push_subject)] | None = Field(
        default=None, description="Whom a push service writes to about this installation; without it push is off."
    )
    chat_schemas: Annotated[frozenset[str], NoDecode, BeforeValidator(_parts), AfterValidator(_chat_schemas)] = Field(
        default=SCHEMAS_DEFAULT, description="The services that chat addresses may name."
    )
    email_smtp_url: Annotated[SecretStr, _url("smtp", "smtps"), AfterValidator(_mail_server)] | None = Field(
        default=None, description="The mail server that takes our mails; smtp:// requires STARTTLS, smtps:// is TLS."
    )
    email_from: Annotated[str, AfterValidator(_mail_address)] | None = Field(
        default=None, description="Whom mails come from: redphone@alerts.example, with or without a name."
    )
    email_reply_to: Annotated[str, AfterValidator(_bare_mail_address)] | None = Field(
        default=None, description="Where answers to mails go; each page adds +token to the part before the @."
    )
    email_inbound_key: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None, description="The key with which the mail provider signs what it hands in."
    )
    sms_providers: ProviderNames = Field(
        default=(), description="Who carries SMS, the first choice first; the next is tried when one does not take it."
    )
    voice_providers: ProviderNames = Field(default=(), description="Who carries calls, likewise.")
    twilio_account_sid: Annotated[str, _shaped(r"AC[0-9a-f]{32}", "must be AC and 32 hexadecimal digits")] | None = (
        Field(default=None, description="The account at Twilio.")
    )
    twilio_auth_token: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None, description="Its auth token, which requests carry and callbacks are signed with."
    )
    twilio_from: Annotated[str, AfterValidator(_twilio_sender)] | None = Field(
        default=None, description="Our number there; for SMS alone also a sender's name or a messaging service (MG…)."
    )
    twilio_url: Annotated[ServiceUrl, AfterValidator(_provider_url)] = Field(
        default="https://api.twilio.com", description="Where Twilio's API is."
    )
    telnyx_api_key: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None, description="The key of the account at Telnyx."
    )
    telnyx_public_key: Annotated[str, AfterValidator(_ed25519_public_key)] | None = Field(
        default=None, description="What Telnyx signs webhooks with, as its portal shows it."
    )
    telnyx_from: Annotated[str, AfterValidator(_telephone_number)] | None = Field(
        default=None, description="Our number there."
    )
    telnyx_connection_id: (
        Annotated[str, _shaped(r"[0-9]{1,30}", "must be the application's id, digits only")] | None
    ) = Field(default=None, description="The Voice API application that calls go through.")
    telnyx_url: Annotated[ServiceUrl, AfterValidator(_provider_url)] = Field(
        default="https://api.telnyx.com", description="Where Telnyx's API is."
    )
    loopback_sms: LoopBacks = Field(
        default=(), repr=False, description="A number of our own at each provider, to which an SMS goes every hour."
    )
    loopback_voice: LoopBacks = Field(
        default=(), repr=False, description="A number of our own that answers, to which each provider calls every hour."
    )
    loopback_email: Annotated[str, AfterValidator(_loop_back_mail_address)] | None = Field(
        default=None, repr=False, description="A mailbox of our own, to which a mail goes every hour."
    )
    loopback_push: SecretStr | None = Field(
        default=None, description="A browser's subscription of our own (JSON), to which a push message goes every hour."
    )
    loopback_chat: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_chat_urls)] = Field(
        default=(), description="Chat rooms of our own, to each of which a message goes every hour."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_json: bool | None = Field(default=None, description="JSON lines; by default wherever there is no terminal.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - given by the library
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands over: the environment is read there, in one place."""
        return (init_settings,)

    def database_url_of(self, service: ServiceName) -> str | None:
        """The service's own database if one is named; None leaves it to `database_url` or the embedded server."""
        url: SecretStr | None = getattr(self, f"{service}_database_url")
        return url.get_secret_value() if url is not None else None

    def feed_url_of(self, service: ServiceName) -> str | None:
        """Where the service's feed is pulled from; None where it runs in this very process."""
        url: str | None = getattr(self, f"feed_{service}_url", None)
        return url.rstrip("/") if url is not None else None

    def api_url_of(self, service: str) -> str | None:
        """Where the console calls the service's API; None where it runs in the console's own process."""
        url: str | None = getattr(self, f"api_{service}_url")
        return url.rstrip("/") if url is not None else None

    def serves(self, partner: str) -> bool:
        """Whether this escalation is responsible for the partner."""
        return not self.partners or partner in self.partners

    @property
    def keys_path(self) -> Path:
        """The key file."""
        return self.keys_file if self.keys_file is not None else self.data_dir / KEY_FILE_NAME

    def keyring(self) -> KeyRing:
        """The keys: from the variable, from the named file, or from the data directory, where they are made if missing.

        Raises `KeysUnusable`. A file that was named by the deployment is never made up.
        """
        if self.keys is not None:
            return KeyRing.parse(self.keys.get_secret_value())
        return KeyRing.load(self.keys_path) if self.keys_file is not None else KeyRing.load_or_generate(self.keys_path)


VARIABLES = tuple(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """The settings of an environment (the process's own if None); `overrides` are the command line's and win.

    Raises `SettingsWrong` with every mistake.
    """
    given = {
        name.upper(): value
        for name, value in (os.environ if environment is None else environment).items()
        if name.upper().startswith(PREFIX)
    }
    mistakes = [_unknown(name) for name in sorted(given) if name not in VARIABLES + CLIENT_VARIABLES]
    fields: dict[str, Any] = {
        name.removeprefix(PREFIX).lower(): value for name, value in given.items() if name in VARIABLES and value.strip()
    }
    fields |= {name: value for name, value in overrides.items() if value is not None}
    if "log_level" in fields:
        fields["log_level"] = str(fields["log_level"]).upper()
    try:
        settings = Settings(**fields)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        mistakes += [f"{PREFIX}{str(m['loc'][0]).upper()} {_sentence(m['msg'])}" for m in found]
        raise SettingsWrong(list(dict.fromkeys(mistakes))) from None
    if settings.keys is not None and settings.keys_file is not None:
        mistakes.append(f"{PREFIX}KEYS and {PREFIX}KEYS_FILE are both set; keep one of them")
    if settings.email_smtp_url is not None and settings.email_from is None:
        mistakes.append(f"{PREFIX}EMAIL_FROM is needed beside {PREFIX}EMAIL_SMTP_URL: mails must come from somebody")
    mistakes += _telephone_mistakes(settings)
    mistakes += _heartbeat_mistakes(settings)
    mistakes += _loop_back_mistakes(settings)
    if mistakes:
        raise SettingsWrong(mistakes)
    return settings


_PROVIDER_NEEDS: Mapping[ProviderName, tuple[str, ...]] = {
    "twilio": ("twilio_account_sid", "twilio_auth_token", "twilio_from"),
    "telnyx": ("telnyx_api_key", "telnyx_public_key", "telnyx_from"),
}


def _heartbeat_mistakes(settings: Settings) -> list[str]:
    url = settings.heartbeat_url
    if url is None or settings.development or url.get_secret_value().startswith("https://"):
        return []
    return [f"{PREFIX}HEARTBEAT_URL must begin with https:// unless {PREFIX}DEVELOPMENT is set"]


def _loop_back_mistakes(settings: Settings) -> list[str]:
    """Loop-backs through what carries nothing here, and addresses that nothing could be sent to."""
    carried = {"sms": settings.sms_providers, "voice": settings.voice_providers}
    mistakes = [
        f"{PREFIX}LOOPBACK_{channel.upper()} names {provider}, which {PREFIX}{channel.upper()}_PROVIDERS does not"
        for channel, pairs in (("sms", settings.loopback_sms), ("voice", settings.loopback_voice))
        for provider, _ in pairs
        if provider not in carried[channel]
    ]
    if settings.loopback_email is not None and settings.email_smtp_url is None:
        mistakes.append(f"{PREFIX}EMAIL_SMTP_URL is needed for {PREFIX}LOOPBACK_EMAIL")
    if settings.loopback_push is not None and settings.push_subject is None:
        mistakes.append(f"{PREFIX}PUSH_SUBJECT is needed for {PREFIX}LOOPBACK_PUSH")
    policy = policy_of(settings)
    try:
        if settings.loopback_push is not None:
            read_subscription(settings.loopback_push.get_secret_value(), policy)
    except Invalid as refused:
        mistakes.append(f"{PREFIX}LOOPBACK_PUSH cannot be used: {refused.detail}")
    for address in settings.loopback_chat:
        try:
            check_chat_url(address.get_secret_value(), schemas=settings.chat_schemas, policy=policy)
        except Invalid as refused:
            mistakes.append(f"{PREFIX}LOOPBACK_CHAT cannot be used: {refused.detail}")
    return list(dict.fromkeys(mistakes))


def _telephone_mistakes(settings: Settings) -> list[str]:
    """What the providers that are named need beside their names."""
    named = tuple(dict.fromkeys((*settings.sms_providers, *settings.voice_providers)))
    needed = [(provider, name) for provider in named for name in _PROVIDER_NEEDS[provider]]
    if "telnyx" in settings.voice_providers:
        needed.append(("telnyx", "telnyx_connection_id"))
    mistakes = [
        f"{PREFIX}{name.upper()} is needed for {provider}, which carries messages"
        for provider, name in needed
        if getattr(settings, name) is None
    ]
    if named and settings.public_url is None:
        mistakes.append(f"{PREFIX}PUBLIC_URL is needed: providers tell there what became of messages and calls")
    sender = settings.twilio_from
    if "twilio" in settings.voice_providers and sender is not None and not _TELEPHONE_NUMBER.fullmatch(sender):
        mistakes.append(f"{PREFIX}TWILIO_FROM must be a number where twilio carries calls")
    mistakes += [
        f"{PREFIX}{name.upper()} must begin with https:// unless {PREFIX}DEVELOPMENT is set"
        for name in ("twilio_url", "telnyx_url")
        if not settings.development and str(getattr(settings, name)).startswith("http://")
    ]
    return mistakes


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.75)
    hint = f"; did you mean {near[0]}?" if near else "; the README lists those that there are"
    return f"{name} is not a setting of Red Phone{hint}"


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return text.replace("should be", "must be")
