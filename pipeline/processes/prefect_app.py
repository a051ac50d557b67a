"""Prefect's server behind a check of the Host header.

A web page can make its own name resolve to the address of this machine (DNS rebinding). The browser then takes the
server for a part of the page's own site, but still sends the page's name as host.
"""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from collections.abc import Sequence

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

KEEP_ALIVE_SECONDS = 5


class OwnHostOnly:
    """ASGI middleware that answers requests to an IP address or a name of this machine, and refuses all others."""

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with status 400."""
        if scope["type"] in ("http", "websocket") and not self._is_own(scope):
            response = PlainTextResponse("This server is not known by that name.", status_code=400)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower().rstrip(".") in self._names
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted. The settings are those of Prefect's environment variables."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.processes.prefect_app", description=__doc__)
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", required=True, type=int, help="port to listen on")
    options = parser.parse_args(argv)
    from prefect.server.api.server import create_app

    names = ["localhost", socket.gethostname(), socket.getfqdn(), options.host]
    uvicorn.run(
        OwnHostOnly(create_app(final=True), names),
        host=options.host,
        port=options.port,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
