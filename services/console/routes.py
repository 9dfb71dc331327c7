"""All pages of the console."""

from __future__ import annotations

from fastapi import APIRouter

from services.console.live import Hub
from services.console.pages import alerts, board, deliveries, raising, signing_in
from services.console.web import Face, add_static, page_route


def router(face: Face, hub: Hub) -> APIRouter:
    """Every page; none of them stands in the API's document."""
    routes = APIRouter(include_in_schema=False, route_class=page_route(face))
    add_static(routes)
    signing_in.add_routes(routes, face)
    board.add_routes(routes, face, hub)
    alerts.add_routes(routes, face)
    raising.add_routes(routes, face)
    deliveries.add_routes(routes, face)
    return routes
