"""Until when the certificate that an endpoint shows is valid: one handshake of our own, over which nothing is sent.

The client that sends webhooks does not tell what certificate it has seen. So the certificate is looked at apart, once a
day, at exactly the address that the guard allows, verified against the name as every webhook is.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime

from services.escalation.heartbeats.domain import Certificate
from shared.clock import Clock
from shared.egress import CheckedUrl, EgressPolicy, EgressRefused, Resolver, check_url
from shared.log import get_logger

log = get_logger(__name__)

TOTAL_SECONDS = 5.0
ADDRESSES_TRIED_MAX = 2


class Certificates:
    """Looks at certificates. `extra_roots_pem` are authorities to trust beside the system's."""

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        clock: Clock,
        extra_roots_pem: bytes | None = None,
        seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._resolver = Resolver(policy, monotonic=clock.monotonic)
        self._extra_roots_pem = extra_roots_pem
        self._seconds = seconds
        self._context: ssl.SSLContext | None = None

    async def look(self, url: str) -> Certificate | None:
        """The certificate's end; None if it could not be seen within five seconds. Never raises."""
        try:
            async with asyncio.timeout(self._seconds):
                checked = check_url(url, self._resolver.policy)
                if checked.scheme != "https":
                    return Certificate(None)
                return await self._shake_hands(checked)
        except (EgressRefused, OSError, TimeoutError, ValueError):
            return None
        except Exception as error:  # noqa: BLE001 - what is not seen today is looked at again in an hour
            log.warning("certificate.not_seen", error=type(error).__name__)
            return None

    def close(self) -> None:
        """Asks no name service any more."""
        self._resolver.close()

    async def _shake_hands(self, url: CheckedUrl) -> Certificate | None:
        if self._context is None:
            # Loads the certificate authorities, some milliseconds: never on the event loop.
            self._context = await asyncio.to_thread(self._make_context)
        for address in (await self._resolver.resolve(url))[:ADDRESSES_TRIED_MAX]:
            try:
                _, writer = await asyncio.open_connection(
                    str(address), url.port, ssl=self._context, server_hostname=url.host
                )
            except ssl.SSLError:
                raise
            except OSError:
                continue
            try:
                shown = writer.get_extra_info("peercert") or {}
                until = shown.get("notAfter")
                return None if until is None else Certificate(_instant(until))
            finally:
                writer.transport.abort()
        return None

    def _make_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._extra_roots_pem is not None:
            context.load_verify_locations(cadata=self._extra_roots_pem.decode("ascii"))
        return context


def _instant(text: str) -> datetime:
    """`notAfter` as the library writes it: `Jan  5 09:34:43 2028 GMT`."""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
