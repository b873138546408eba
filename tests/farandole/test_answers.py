"""Errors over HTTP say how to mend what was asked."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from farandole.answers import error


def asked(*paths: str) -> Any:
    async def nothing(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    for path in paths:
        app.router.add_route("*", path, nothing)
    return make_mocked_request("GET", "/nowhere", app=app)


def test_what_is_not_there_is_answered_with_the_pages_of_this_worker_and_of_no_other() -> None:
    said = error(404, "there is no such transfer", asked("/", "/transfers", "/transfers/{transfer_id}", "/health"))
    assert said["where"] == "GET /nowhere"
    assert said["mend"] == "check the id and the path; this worker has /health, /transfers, /transfers/{transfer_id}"
    assert error(404, "no", asked())["mend"] == "check the id and the path"


def test_other_refusals_have_their_own_mend() -> None:
    assert error(503, "not now", asked("/orders"))["mend"] == "send the same request again in a moment"
