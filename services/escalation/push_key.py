"""What a browser needs before it can be a contact point: the public key that its subscription is made with."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from shared.contracts import ChannelName
from shared.errors import NotFound
from shared.keys import KeyRing
from shared.problems import problem_responses
from shared.settings import Settings
from shared.web import new_router


class PushPublicKey(BaseModel):
    """The key of this installation for Web Push."""

    public_key: str = Field(description="`applicationServerKey`: an uncompressed point of P-256 as base64url.")


def router(settings: Settings, keys: KeyRing) -> APIRouter:
    """`GET /v1/push/key`."""
    routes = new_router(tags=["Installation"])

    @routes.get(
        "/v1/push/key",
        summary="The key for push subscriptions",
        response_model=PushPublicKey,
        responses=problem_responses("not_found"),
    )
    async def show_push_key() -> PushPublicKey:
        """What a browser's `pushManager.subscribe` takes as `applicationServerKey`. Public; needs no login.

        `JSON.stringify` of the subscription that comes back is the address of a contact point of channel `push`. 404
        where this installation sends no push.
        """
        if settings.push_subject is None or not keys.push_keys or ChannelName.PUSH not in settings.channels:
            raise NotFound("this installation sends no push messages")
        return PushPublicKey(public_key=keys.push_keys[0].public_text)

    return routes
