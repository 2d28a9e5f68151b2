"""The page "Taxi warehouse" in the web UI: the state of every month, a panel per month, and the shared resources.

On Airflow 3 it is an app of the UI itself (`react_apps`), on 2.11 a page of its own in the menu. Both load the ES
modules in the folder `warehouse_page` beside this file, and read the same JSON (see include/nyc_taxi/web). Actions are
not served here: the page uses Airflow's own REST API with the user's session.

`include` is imported where it is used: Airflow also loads plugins in processes without the DAG bundle on their path.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin

import output_pages
from output_pages import IS_AIRFLOW_3, base_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

PREFIX = output_pages.PREFIX + output_pages.WAREHOUSE
MENU = "Taxi warehouse"
ROUTE = "taxi-warehouse"
FILES = Path(__file__).resolve().parent / "warehouse_page"
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Styles are adopted style sheets and attributes. The page loads nothing from another host, and no inline script.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
}
_HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Taxi warehouse</title>
<link rel="icon" type="image/svg+xml" href="{base}/static/icon.svg">
</head>
<body>
<main id="page" data-env="{env}"></main>
<script type="module" src="{base}/static/page.js"></script>
</body>
</html>
"""

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


def page_module() -> ModuleType:
    """The module that reads Airflow's database for the page. It is imported at a request, like the pages of outputs."""
    output_pages.pages()  # puts the project on the path of a web server that has no DAG bundle
    from include.orchestration import page

    return page


def base() -> str:
    """The path of the page: "/nyc-taxi/warehouse", after the path of the base URL."""
    return base_path() + output_pages.WAREHOUSE


def answer(status: int, body: bytes | str, media_type: str) -> Answer:
    """An answer that no browser stores."""
    content = body.encode() if isinstance(body, str) else body
    return status, _HEADERS | {"Content-Type": media_type}, content


def json_answer(values: Any, status: int = 200) -> Answer:
    """An answer in JSON."""
    return answer(status, json.dumps(values, separators=(",", ":"), allow_nan=False), "application/json")


def missing() -> Answer:
    """The answer for something that does not exist, or that the user may not know about."""
    return json_answer({"detail": "There is no such thing here, or you may not read it."}, 404)


def page_answer(csrf: str | None) -> Answer:
    """The page by itself, for 2.11, and for links to it on Airflow 3."""
    from html import escape

    root = base_path().removesuffix(output_pages.PREFIX)
    env = {"base": base(), "airflow": 3 if IS_AIRFLOW_3 else 2, "airflowBase": root, "navigate": None, "csrf": csrf}
    text = _HTML.format(env=escape(json.dumps(env)), base=escape(base()))
    return answer(200, text, "text/html; charset=utf-8")


def static_answer(name: str) -> Answer:
    """A file of the page. Only files directly in its folder, of known kinds, are served."""
    file = FILES / name
    kind = MEDIA_TYPES.get(file.suffix)
    if not kind or "/" in name or "\\" in name or name.startswith(".") or not file.is_file():
        return missing()
    return answer(200, file.read_bytes(), kind)


def grid_answer(session: Any, rights: Rights) -> Answer:
    """The JSON of the grid."""
    page = page_module()
    return json_answer(page.grid_data(session, page.Rights(*rights(page.dag_ids()))))


def month_answer(session: Any, rights: Rights, fleet: str, month: str) -> Answer:
    """The JSON of a month."""
    page = page_module()
    from include.nyc_taxi.errors import MonthError

    try:
        found = page.month_data(session, page.Rights(*rights(page.month_dag_ids(fleet))), fleet, month)
    except MonthError as error:
        return json_answer({"detail": str(error)}, 404)
    return missing() if found is None else json_answer(found)


def resource_answer(session: Any, rights: Rights) -> Answer:
    """The JSON of the shared resources."""
    page = page_module()
    return json_answer(page.resource_data(session, page.Rights(*rights(page.project_dag_ids(session)))))


def outputs_answer(session: Any, rights: Rights, folder: str, chosen: str) -> Answer:
    """The JSON of the outputs in a folder: of a year, or of a page of the results of requests."""
    page = page_module()
    from include.nyc_taxi.web import outputs
    from include.orchestration.outputs import outputs_data

    found = outputs_data(session, page.Rights(*rights(outputs.dag_ids())), folder, chosen)
    return missing() if found is None else json_answer(found)


def rights_of(may: Callable[[str, str], bool]) -> Rights:
    """Which of some DAGs the user may read, and of which the user may start runs.

    Args:
        may: whether the user may apply a method ("GET", "POST") to the runs of a DAG.
    """

    def rights(dag_ids: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        readable = frozenset(dag_id for dag_id in dag_ids if may("GET", dag_id))
        return readable, frozenset(dag_id for dag_id in readable if may("POST", dag_id))

    return rights


if TYPE_CHECKING:
    Rights = Callable[[Collection[str]], tuple[frozenset[str], frozenset[str]]]


def fastapi_app() -> Any:
    """The routes for Airflow 3, which the app of `output_pages` mounts.

    The app protects itself: neither Airflow nor the app that mounts it adds authentication.
    """
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.common.db.common import SessionDep
    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
    from fastapi import Depends, FastAPI, HTTPException, Request, Response

    app = FastAPI(
        title="The page of the taxi warehouse",
        dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
        openapi_url=None,  # the API's description, and the pages that show it, would be public
        redirect_slashes=False,  # redirects would go to any host that a stranger's request names
    )

    def add(path: str, handler: Callable[..., Response], **types: Any) -> None:
        # Annotations are strings in this file, and FastAPI cannot resolve those that name this function's imports.
        handler.__annotations__ |= types | {"return": Response}
        app.add_api_route(path, handler, methods=["GET", "HEAD"])

    def respond(request: Request, answered: Answer) -> Response:
        status, headers, body = answered
        if request.method == "HEAD":
            return Response(None, status, headers | {"Content-Length": str(len(body))})
        return Response(body, status, headers)

    def rights(user: Any) -> Rights:
        return rights_of(output_pages.may_of(user))

    def page(request: Request) -> Response:
        return respond(request, page_answer(None))

    def static(request: Request, name: str) -> Response:
        return respond(request, static_answer(name))

    def grid(request: Request, session: Any, user: Any) -> Response:
        return respond(request, grid_answer(session, rights(user)))

    def month(request: Request, session: Any, user: Any, fleet: str, month: str) -> Response:
        return respond(request, month_answer(session, rights(user), fleet, month))

    def resource(request: Request, session: Any, user: Any) -> Response:
        return respond(request, resource_answer(session, rights(user)))

    def outputs(request: Request, session: Any, user: Any, folder: str = "", page: str = "") -> Response:
        return respond(request, outputs_answer(session, rights(user), folder, page))

    asking = {"request": Request, "session": SessionDep, "user": GetUserDep}
    add("/", page, request=Request)
    add("/static/{name}", static, request=Request, name=str)
    add("/data/grid", grid, **asking)
    add("/data/month/{fleet}/{month}", month, **asking, fleet=str, month=str)
    add("/data/resource", resource, **asking)
    add("/data/outputs", outputs, **asking, folder=str, page=str)
    app.add_exception_handler(HTTPException, output_pages.let_sign_in)
    return app


def flask_view() -> Any:
    """The routes for Airflow 2.11, which sends strangers to the login page."""
    from airflow.utils.session import create_session
    from airflow.www.auth import has_access_view
    from flask import Response, request
    from flask_appbuilder import BaseView, expose
    from flask_wtf.csrf import generate_csrf  # type: ignore[import-not-found]

    def route(path: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        return lambda handler: expose(path)(has_access_view()(handler))

    def respond(answered: Answer) -> Response:
        status, headers, body = answered
        return Response(body, status, headers)  # Flask drops the body for HEAD

    def rights() -> Rights:
        return rights_of(output_pages.may_of())

    class WarehousePage(BaseView):  # type: ignore[misc]
        route_base = PREFIX
        default_view = "page"

        @route("")  # else Flask would redirect it to the host that the request names
        @route("/")
        def page(self) -> Response:
            return respond(page_answer(generate_csrf()))

        @route("/static/<name>")
        def static_file(self, name: str) -> Response:
            return respond(static_answer(name))

        @route("/data/grid")
        def grid(self) -> Response:
            with create_session() as session:
                return respond(grid_answer(session, rights()))

        @route("/data/month/<fleet>/<month>")
        def month(self, fleet: str, month: str) -> Response:
            with create_session() as session:
                return respond(month_answer(session, rights(), fleet, month))

        @route("/data/resource")
        def resource(self) -> Response:
            with create_session() as session:
                return respond(resource_answer(session, rights()))

        @route("/data/outputs")
        def outputs(self) -> Response:
            folder, page = request.args.get("folder", ""), request.args.get("page", "")
            with create_session() as session:
                return respond(outputs_answer(session, rights(), folder, page))

    return WarehousePage()


class WarehousePagePlugin(AirflowPlugin):
    """Registers the page. What only a web server needs are properties: FastAPI takes 1.5 s to import."""

    name = "warehouse_page"

    @property
    def react_apps(self) -> list[Any]:  # type: ignore[override]  # Airflow only reads these two
        """The entry in the navigation of Airflow 3. The routes are part of the app of `output_pages`."""
        icon = f"{base()}/static/icon.svg"
        app = {
            "name": MENU,
            "bundle_url": f"{base()}/static/app.js",
            "url_route": ROUTE,
            "destination": "nav",
            "nav_top_level": True,
            "icon": icon,
            "icon_dark_mode": icon,
        }
        return [app] if IS_AIRFLOW_3 else []

    @property
    def appbuilder_views(self) -> list[Any]:  # type: ignore[override]
        """For 2.11's web server, with an entry in its menu."""
        return [] if IS_AIRFLOW_3 else [{"name": MENU, "category": "Browse", "view": flask_view()}]
