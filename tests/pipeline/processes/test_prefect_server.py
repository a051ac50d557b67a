"""Attacks on a local Prefect server: a page of another site, a name that resolves to it, a user of the same machine."""

from __future__ import annotations

import asyncio
import base64
import stat
from pathlib import Path

import httpx
import pytest
import websockets
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from pipeline.processes.prefect_server import configured_server, home_secret, running_server

FOREIGN = "http://evil.example"
DEPLOYMENT = {
    "name": "attack",
    "flow_id": "00000000-0000-0000-0000-000000000000",
    "pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/owned"}}],
}


@pytest.fixture
def address(prefect: Path) -> str:
    server = running_server(prefect)
    assert server is not None
    return server.address


def credentials(home: Path) -> dict[str, str]:
    """Return the header that the UI sends after its login."""
    return {"Authorization": "Basic " + base64.b64encode(home_secret(home).encode()).decode()}


@pytest.mark.parametrize("origin", [FOREIGN, "null", ""])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("flows/", {"name": "attack"}),
        ("deployments/", DEPLOYMENT),
        ("deployments/filter", {}),
        ("flow_runs/filter", {}),
        ("variables/filter", {}),
    ],
)
def test_without_the_secret_nothing_is_read_or_created(
    address: str, origin: str, path: str, body: dict[str, object]
) -> None:
    headers = {"Origin": origin} if origin else {}
    answer = httpx.post(f"{address}/{path}", json=body, headers=headers)
    assert answer.status_code in (401, 403)
    assert answer.headers.get("access-control-allow-origin") not in ("*", origin or "*")
    with get_client(sync_client=True) as client:
        assert "attack" not in {flow.name for flow in client.read_flows()}


def test_another_sites_page_is_not_allowed_to_ask_even_with_the_secret(prefect: Path, address: str) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    for origin in (FOREIGN, "null"):
        preflight = httpx.options(f"{address}/flows/", headers={"Origin": origin, **asks})
        assert preflight.status_code == 400 and "access-control-allow-origin" not in preflight.headers
    own = address.removesuffix("/api")
    assert httpx.options(f"{address}/flows/", headers={"Origin": own, **asks}).status_code == 200
    forged = httpx.post(f"{address}/flows/", json={"name": "attack"}, headers=credentials(prefect))
    assert forged.status_code == 403 and "CSRF" in forged.text


def test_a_name_that_was_made_to_resolve_to_the_server_is_refused(prefect: Path, address: str) -> None:
    for host in ("evil.example", "evil.example:4200", "127.0.0.1.evil.example", "localhost.evil.example", "", "a:b:c"):
        for path in ("", "/api/health", "/api/admin/version"):
            answer = httpx.get(address.removesuffix("/api") + path, headers={"Host": host, **credentials(prefect)})
            assert answer.status_code == 400, (host, path)
    port = httpx.URL(address).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", "127.0.0.1"):
        answer = httpx.get(f"{address}/admin/version", headers={"Host": host, **credentials(prefect)})
        assert answer.status_code == 200, host


@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out"])
def test_streams_ask_for_the_secret_too(address: str, path: str) -> None:
    async def read() -> str:
        url = f"{address.replace('http', 'ws', 1)}/{path}"
        async with websockets.connect(url, subprotocols=[websockets.Subprotocol("prefect")]) as socket:
            await socket.send('{"type": "auth", "token": "guess"}')
            return str(await asyncio.wait_for(socket.recv(), 5))

    with pytest.raises(websockets.exceptions.WebSocketException):
        answer = asyncio.run(read())
        raise AssertionError(answer)


def test_only_the_owner_reads_the_secret_and_the_database(prefect: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stat.S_IMODE(prefect.stat().st_mode) == 0o700
    assert stat.S_IMODE((prefect / "secret").stat().st_mode) == 0o600
    assert len(home_secret(prefect)) > 30 and home_secret(prefect) == home_secret(prefect)
    # Our commands find the secret of the server that runs here, and never send it to another.
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    own = configured_server(prefect)
    assert own is not None and own.secret == home_secret(prefect)
    monkeypatch.setenv("PREFECT_API_URL", "http://10.0.0.5:4200/api")
    other = configured_server(prefect)
    assert other is not None and other.secret is None
