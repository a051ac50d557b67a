"""Take pictures of a run in the Prefect UI with headless Chromium."""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Error as BrowserError
from playwright.sync_api import sync_playwright
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from model.printable import error_line, printable
from pipeline.processes.prefect_server import HOME, Api, configured_server

FLOW = "repro"
PICTURE = "run-graph.png"
WIDTH, HEIGHT = 1360, 900
DRAWING_MILLISECONDS = 6000  # the graph is drawn on a canvas without any sign of its completion


def newest_run(flow: str) -> str:
    """Return the id of the newest completed run of a flow; raises LookupError."""
    completed = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            flow_run_filter=completed,
            sort=FlowRunSort.END_TIME_DESC,
            limit=1,
        )
    if not runs:
        raise LookupError(f"no completed run of {flow} on this server; start one: prefect deployment run {flow}/{flow}")
    return str(runs[0].id)


def take_picture(api: Api, run: str, path: Path) -> None:
    """Write a picture of a run's page."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise LookupError("Chromium is not installed: apt-get install chromium")
    path.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        if api.secret:  # as the page's login does
            password = base64.b64encode(api.secret.encode()).decode()
            page.add_init_script(f"localStorage.setItem('prefect-password', '{password}')")
        page.goto(f"{api.address.removesuffix('/api')}/runs/flow-run/{run}", wait_until="networkidle")
        page.wait_for_timeout(DRAWING_MILLISECONDS)
        page.screenshot(path=str(path))
        browser.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Take the picture of the newest completed run."""
    parser = argparse.ArgumentParser(
        prog="voice-factory ui-shot",
        description="Write a picture of the newest completed run in the UI of the server of PREFECT_API_URL, "
        "otherwise of the running one of this project.",
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the pictures (default: docs)")
    options = parser.parse_args(argv)
    api = configured_server(HOME)
    if api is None:
        sys.stderr.write("error: no server is running; start one with make serve, or set PREFECT_API_URL\n")
        return 1
    try:
        with api.connected():
            take_picture(api, newest_run(FLOW), options.out / PICTURE)
    except (LookupError, BrowserError) as error:
        sys.stderr.write(f"{error_line(str(error).splitlines()[0])}\n")
        return 1
    sys.stderr.write(printable(f"wrote {options.out / PICTURE}\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
