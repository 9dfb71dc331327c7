"""Which chat addresses are usable: those of known services, to public servers, with harmless settings."""

from __future__ import annotations

import pytest
from apprise import Apprise
from apprise.manager_plugins import NotificationManager
from hypothesis import given
from hypothesis import strategies as st

from shared.chat_urls import CHAT_URL_CHARACTERS_MAX, SCHEMAS, SCHEMAS_DEFAULT, ChatUrlRefused, check_chat_url
from shared.egress import EgressPolicy, EgressRefused

# Apprise loads all of its services at once, and one of them an old module of the standard library.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

PUBLIC = EgressPolicy()
DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
TEAMS = "workflows://prod.westus.logic.azure.com:443/" + "a" * 32 + "/" + "b" * 43
USABLE = [
    "signals://signal.ministry.example:8443/+16135550100/+16135550123",
    TEAMS,
    TEAMS + "?ver=2016-06-01",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23crisis",
    "matrixs://duty:secret@matrix.ministry.example/%23crisis",
    "mmosts://chat.ministry.example/3ccdd113474722377935511fc85d3dd4",
    "rockets://duty:secret@chat.ministry.example/%23crisis",
    "nctalks://duty:secret@cloud.ministry.example/roomid",
    "zulip://duty-bot@ministry/a6k1ev1skdjfnxj1kfnxjskdjfnxjskd",
    "gchat://space/key/token",
    "threema://*REDPHON@abcdefgh12345678/16135550123",
    "tgram://123456789:AAGuZmQhcmRfbG9uZ190b2tlbl9oZXJlXzEyMzQ/-1001234567",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "ntfys://crisis-topic-of-the-ministry",
    "ntfys://duty:secret@ntfy.ministry.example/crisis",
    "gotifys://gotify.ministry.example/AXyOdx.dFvIo11U",
]


@pytest.mark.parametrize("url", USABLE)
def test_addresses_of_known_services_are_usable(url: str) -> None:
    """An address of each service is accepted unchanged, and Apprise itself understands all but incomplete tokens."""
    checked = check_chat_url(url, schemas=SCHEMAS_DEFAULT, policy=PUBLIC)
    assert checked.url == url
    assert checked.schema == url.partition(":")[0]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("matrixs://duty:p%40ss@matrix.ministry.example:8448/%23crisis", "matrix.ministry.example"),
        ("ntfys://ntfy.ministry.example/crisis", "ntfy.ministry.example"),
        ("ntfys://topic", None),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", None),
    ],
)
def test_the_server_that_an_address_names_is_known(url: str, host: str | None) -> None:
    """Where the address names the server it is checked like any URL; where the service has its own there is none."""
    server = check_chat_url(url, schemas=SCHEMAS_DEFAULT, policy=PUBLIC).server
    assert (server.host if server else None) == host
    assert server is None or server.scheme == "https"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "duty-room",
        "https://hooks.slack.example/services/x",
        "file:///etc/passwd",
        "dbus://",
        "syslog://",
        "mailto://user:pass@mail.example",
        "twilio://sid:token@16135550100/16135550123",
        "jsons://ministry.example/hook",
        "apprises://ministry.example/token",
        "SLACK://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "slack://",
        "slack://token/with space",
        "slack://token/\u0661",
        "slack://token#fragment",
        "slack://T1/A1/TI?template=/etc/passwd",
        "ntfys://ntfy.ministry.example/crisis?verify=no",
        "ntfys://ntfy.ministry.example/crisis?rto=86400",
        "ntfys://ntfy.ministry.example/crisis?attach=file:///etc/passwd",
        "ntfys://ntfy.ministry.example/crisis?+verify=no",
        "ntfys://ntfy.ministry.example/crisis?Verify=no",
        "ntfys://ntfy.ministry.example/crisis?redirect=yes",
        "ntfys://ntfy%2eministry.example/crisis",
        "ntfys://a@b@[::1/crisis",
        "ntfy://ntfy.ministry.example/crisis",
        "ntfys://" + "x" * CHAT_URL_CHARACTERS_MAX,
    ],
)
def test_other_addresses_are_refused_without_repeating_them(url: str) -> None:
    """Other schemas, connections without TLS, and settings that read files or switch checks off are refused."""
    with pytest.raises(ChatUrlRefused) as refusal:
        check_chat_url(url, schemas=SCHEMAS_DEFAULT, policy=PUBLIC)
    assert "passwd" not in refusal.value.detail
    assert "token" not in url or "token/" not in refusal.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "ntfys://127.0.0.1/crisis",
        "matrixs://u:p@10.1.2.3/room",
        "gotifys://[::1]/token",
        "mmosts://localhost/token",
        "rockets://u:p@chat.example:25/room",
        "signals://user:pass@2130706433/+16135550100/+16135550123",
    ],
)
def test_servers_inside_are_refused(url: str) -> None:
    """A server of one's own must be on the public internet, as with webhooks."""
    with pytest.raises(EgressRefused):
        check_chat_url(url, schemas=SCHEMAS_DEFAULT, policy=PUBLIC)


def test_the_deployment_decides_which_services_may_be_used() -> None:
    """What the deployment leaves out is refused, with a sentence that names what may be used."""
    with pytest.raises(ChatUrlRefused, match="one of matrixs, ntfys and"):
        check_chat_url(USABLE[3], schemas={"matrixs", "ntfys", "ntfy"}, policy=PUBLIC)


def test_connections_without_tls_serve_development_only() -> None:
    """Plain http to this machine needs a deployment for development that also allows the schema."""
    url = "ntfy://127.0.0.1:9000/crisis"
    assert check_chat_url(url, schemas=SCHEMAS.keys(), policy=DEVELOPMENT).server is not None
    for schemas, policy in ((SCHEMAS_DEFAULT, DEVELOPMENT), (SCHEMAS.keys(), PUBLIC)):
        with pytest.raises(ChatUrlRefused):
            check_chat_url(url, schemas=schemas, policy=policy)


@pytest.mark.parametrize("name", SCHEMAS)
def test_apprise_knows_every_service_of_the_table(name: str) -> None:
    """Each schema is one of Apprise's, over TLS or not as the table says, and names its server where the table says."""
    plugin = NotificationManager()[name]  # type: ignore[no-untyped-call]
    secure = [plugin.secure_protocol] if isinstance(plugin.secure_protocol, str) else plugin.secure_protocol
    assert SCHEMAS[name].encrypted == (name in secure)
    assert SCHEMAS[name].own_host == any("{host}" in template for template in plugin.templates)
    documented = set(plugin.template_args) | set(plugin.template_kwargs)
    assert SCHEMAS[name].settings <= documented | {"token", "sig"}
    assert "template" not in SCHEMAS[name].settings


@pytest.mark.parametrize("url", USABLE)
def test_apprise_sends_to_the_server_that_was_checked(url: str) -> None:
    """Apprise finds in an address the same server as the guard did: no second reading leads elsewhere."""
    room = Apprise.instantiate(url)
    server = check_chat_url(url, schemas=SCHEMAS_DEFAULT, policy=PUBLIC).server
    assert room is not None
    if server is not None:
        assert (room.host, room.port or 443) == (server.host, server.port)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_no_text_breaks_the_check(text: str) -> None:
    """Whatever stands behind a schema, it is checked or refused, never a crash."""
    for schema in ("ntfys", "matrixs", "slack"):
        try:
            checked = check_chat_url(f"{schema}://{text}", schemas=SCHEMAS_DEFAULT, policy=PUBLIC)
        except (ChatUrlRefused, EgressRefused):
            continue
        assert checked.schema == schema
