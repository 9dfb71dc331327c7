"""All pages of the console."""

from __future__ import annotations

from fastapi import APIRouter

from services.console.live import Hub
from services.console.pages import (
    acknowledging,
    alerts,
    board,
    deliveries,
    installing,
    people,
    raising,
    reports,
    roster,
    rotas,
    signing_in,
    statistics,
    updating,
)
from services.console.web import Face, add_static, page_route


def router(face: Face, hub: Hub) -> APIRouter:
    """Every page; none of them stands in the API's document."""
    routes = APIRouter(include_in_schema=False, route_class=page_route(face))
    add_static(routes)
    installing.add_routes(routes, face)
    signing_in.add_routes(routes, face)
    board.add_routes(routes, face, hub)
    acknowledging.add_routes(routes, face)
    # Before the acts on an alert, which take any word.
    updating.add_routes(routes, face)
    alerts.add_routes(routes, face)
    raising.add_routes(routes, face)
    reports.add_routes(routes, face)
    deliveries.add_routes(routes, face)
    statistics.add_routes(routes, face)
    roster.add_routes(routes, face)
    rotas.add_routes(routes, face)
    people.add_routes(routes, face)
    return routes
