"""Shows outputs in the web UI: a link on each task that makes one, and pages for signed-in users.

`include` is imported where it is used: Airflow also loads plugins in processes without the DAG bundle on their path.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from airflow import __version__
from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY, AirflowPlugin, BaseOperatorLink, XCom, conf
from airflow.providers.standard.operators.python import PythonOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

IS_AIRFLOW_3 = not __version__.startswith("2.")
PREFIX = "/nyc-taxi"
WAREHOUSE = "/warehouse"
"""Where the page of the warehouse is, below the prefix."""
MAX_ID = 250
_ID = re.compile(r"[\w.-]+")
"""The characters that Airflow allows in the ids of DAGs and tasks."""
_MAP_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,8})?")


class OutputLink(BaseOperatorLink):
    """The button that opens the page of a task's output.

    Airflow 3 calls `get_link` in the worker when the task has ended, and stores the result. 2.11 calls it in the web
    server when a user opens the task.
    """

    name = "Open output"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """The page's path on the web server, or "" for no button if the task has made nothing.

        Its query names the task, so that the page can link back to it.
        """
        path = XCom.get_value(ti_key=ti_key, key=XCOM_RETURN_KEY)
        if not path:
            return ""
        opener = {"dag_id": ti_key.dag_id, "run_id": ti_key.run_id, "task_id": ti_key.task_id}
        mapped = {"map_index": ti_key.map_index} if ti_key.map_index >= 0 else {}
        return f"{base_path()}/outputs/{quote(path)}?{urlencode(opener | mapped)}"


class OutputOperator(PythonOperator):
    """A PythonOperator whose callable makes a file in the outputs folder and returns its path, or None.

    Its XCom is the path relative to that folder, such as "green/manhattan_map_2023-02.png".
    """

    operator_extra_links = (OutputLink(),)

    def execute(self, context: Context) -> str | None:
        """Call the callable.

        Raises:
            ValueError: the file is not in the outputs folder.
        """
        from include.nyc_taxi.web.pages import relative_path

        made = super().execute(context)
        return None if made is None else relative_path(made)


def base_path() -> str:
    """The path before `/outputs` in a page's address: "/nyc-taxi", or "/airflow/nyc-taxi" if the base URL has a path.

    It leaves out the host and the port: the worker of a backfill stores the link, and a later web server may have
    another port, or another name in the browser.
    """
    url = conf.get("api" if IS_AIRFLOW_3 else "webserver", "base_url", fallback="") or ""
    return urlsplit(url).path.rstrip("/") + PREFIX


def task_page(dag_id: str, run_id: str, task_id: str, map_index: str) -> tuple[str, str] | None:
    """The task that a page was opened from, according to its address: its name and the path of its own page.

    None if an id is missing or is none that Airflow allows. A made-up address leads at most to a page of this web
    server that does not exist.
    """
    ids = all(len(each) <= MAX_ID and _ID.fullmatch(each) and each.strip(".") for each in (dag_id, task_id))
    run = len(run_id) <= MAX_ID and run_id.isprintable() and run_id.strip(". ") and not set(run_id) & set("/\\")
    if not (ids and run and _MAP_INDEX.fullmatch(map_index)):
        return None
    dag = f"{base_path().removesuffix(PREFIX)}/dags/{quote(dag_id)}"
    name = f"{dag_id}.{task_id}" + (f" [{map_index}]" if map_index else "")
    if IS_AIRFLOW_3:
        mapped = f"/mapped/{map_index}" if map_index else ""
        return name, f"{dag}/runs/{quote(run_id, safe='')}/tasks/{quote(task_id)}{mapped}"
    query = {"dag_run_id": run_id, "task_id": task_id, "tab": "details"}
    if map_index:
        query["map_index"] = map_index
    if base_date := _date_of(dag_id, run_id):
        query["base_date"] = base_date
    return name, f"{dag}/grid?{urlencode(query)}"


def _date_of(dag_id: str, run_id: str) -> str | None:
    """The date of a run, for 2.11: its grid shows the runs up to a date, by default up to the newest."""
    from airflow.models.dagrun import DagRun

    runs = DagRun.find(dag_id=dag_id, run_id=run_id)
    return runs[0].execution_date.isoformat() if runs else None


def pages() -> ModuleType:
    """The module that answers requests. It is imported at a request, so that its absence breaks only these pages.

    Raises:
        ModuleNotFoundError: `include/nyc_taxi` is neither on the path nor beside the plugins folder.
    """
    try:
        from include.nyc_taxi.web import pages
    except ModuleNotFoundError:
        # Airflow 3's web server has no DAG bundle on its path. A worker never gets here: it must use its run's bundle.
        root = str(Path(__file__).resolve().parents[1])
        if root not in sys.path:
            sys.path.append(root)
        try:
            from include.nyc_taxi.web import pages
        except ModuleNotFoundError as error:
            if error.name not in ("include", "include.nyc_taxi"):
                raise
            others = [*getattr(sys.modules.get("include"), "__path__", [])]
            raise ModuleNotFoundError(
                f"The pages of outputs need include/nyc_taxi: expected it in {root} or on PYTHONPATH, found "
                + (f"another package `include`, {', '.join(others)}" if others else "it in neither")
                + '. Copy it, as README.md says under "In an existing Airflow"',
                name=error.name,
            ) from None
    return pages


def may_of(user: Any = None) -> Callable[[Any, str], bool]:
    """Whether a user may apply a method ("GET", "POST") to the runs of a DAG, and may read the DAG.

    Args:
        user: the user of the request on Airflow 3. 2.11 knows the user of the request by itself.
    """
    if IS_AIRFLOW_3:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.models import resource_details
    else:
        from airflow.auth.managers.models import resource_details  # type: ignore[import-not-found,no-redef]
        from airflow.www.extensions.init_auth_manager import get_auth_manager  # type: ignore[no-redef]
    who = {"user": user} if IS_AIRFLOW_3 else {}

    def may(method: Any, dag_id: str) -> bool:
        manager, details = get_auth_manager(), resource_details.DagDetails(id=dag_id)
        if method == "GET" and not manager.is_authorized_dag(method="GET", details=details, **who):
            return False
        return bool(
            manager.is_authorized_dag(
                method=method, access_entity=resource_details.DagAccessEntity.RUN, details=details, **who
            )
        )

    return may


def may_see(user: Any = None) -> Callable[[str], bool]:
    """Whether a user may see an output, by its path: whoever may read a DAG sees what the DAG makes."""
    pages()  # puts the project on the path of a web server that has no DAG bundle
    from include.nyc_taxi.web import outputs

    may = may_of(user)
    known: dict[str, bool] = {}

    def may_read(dag_id: str) -> bool:
        if dag_id not in known:
            known[dag_id] = may("GET", dag_id)
        return known[dag_id]

    def may_see_it(path: str) -> bool:
        makers = outputs.makers(path)
        return not makers or any(may_read(dag_id) for dag_id in sorted(makers))

    return may_see_it


def thumbnails() -> ModuleType:
    """The module that makes thumbnails."""
    pages()
    from include.nyc_taxi.web import thumbnails

    return thumbnails


async def let_sign_in(request: Any, error: Any) -> Any:
    """Like the UI itself, let a browser sign in whose token is missing or was issued before a restart."""
    from fastapi.exception_handlers import http_exception_handler
    from fastapi.responses import RedirectResponse

    not_signed_in = error.status_code == 401 or error.detail == "Invalid JWT token"
    if not_signed_in and "text/html" in request.headers.get("accept", ""):
        query = f"?{request.url.query}" if request.url.query else ""
        asked_for = base_path() + request.url.path.partition(PREFIX)[2] + query
        login = f"{base_path().removesuffix(PREFIX)}/api/v2/auth/login"
        return RedirectResponse(f"{login}?{urlencode({'next': asked_for})}", headers={"Cache-Control": "no-store"})
    return await http_exception_handler(request, error)


def fastapi_app() -> Any:
    """The pages for Airflow 3. The app protects itself: Airflow does not add authentication to a plugin's app."""
    import warehouse_page
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
    from fastapi import Depends, FastAPI, HTTPException, Request, Response
    from fastapi.responses import RedirectResponse, StreamingResponse

    app = FastAPI(
        title="Outputs of the taxi DAGs",
        dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
        openapi_url=None,  # the API's description, and the pages that show it, would be public
        redirect_slashes=False,  # redirects would go to any host that a stranger's request names
    )

    def add(path: str, handler: Callable[..., Response]) -> None:
        # Annotations are strings in this file, and FastAPI cannot resolve those that name this function's imports.
        asking = {"request": Request, "user": GetUserDep, "return": Response}
        handler.__annotations__ |= {name: kind for name, kind in asking.items() if name in handler.__annotations__}
        app.add_api_route(path, handler, methods=["GET", "HEAD"])

    class FileResponse(StreamingResponse):
        """Sends an open file and closes it, even if the browser disconnects halfway."""

        def __init__(self, answer: Any) -> None:
            # Airflow would compress it under the same ETag, and ranges of both versions would be mixed up.
            headers = answer.headers | {"Content-Encoding": "identity"}
            super().__init__(answer.body, answer.status, headers)
            self.content = answer.body

        async def __call__(self, *args: Any) -> None:
            try:
                await super().__call__(*args)
            finally:
                self.content.close()

    def respond(request: Request, answer: Any) -> Response:
        if request.method == "HEAD":
            answer = answer.without_body()
        if isinstance(answer.body, bytes):
            return Response(answer.body, answer.status, answer.headers)
        return FileResponse(answer)

    def index(request: Request, user: Any) -> Response:
        return respond(request, pages().index_page(base_path(), may_see(user)))

    def output(
        request: Request,
        user: Any,
        path: str,
        dag_id: str = "",
        run_id: str = "",
        task_id: str = "",
        map_index: str = "",
    ) -> Response:
        task = task_page(dag_id, run_id, task_id, map_index)
        return respond(request, pages().output_page(base_path(), path, task, may_see(user)))

    def file(request: Request, user: Any, path: str) -> Response:
        return respond(request, pages().file_answer(base_path(), path, request.headers, may_see(user)))

    def thumbnail(request: Request, user: Any, path: str, v: str = "") -> Response:
        return respond(request, thumbnails().thumbnail_answer(base_path(), path, request.headers, v, may_see(user)))

    def dbt_docs(request: Request) -> Response:
        return respond(request, pages().dbt_docs_answer(base_path(), request.headers))

    def warehouse(request: Request) -> Response:  # noqa: ARG001 - as for the other paths
        return RedirectResponse(f"{base_path()}{WAREHOUSE}/", headers={"Cache-Control": "no-store"})

    add("/outputs", index)
    add(WAREHOUSE, warehouse)
    add("/outputs/{path:path}", output)
    add("/files/{path:path}", file)
    add("/dbt", dbt_docs)
    add("/thumbnails/{path:path}", thumbnail)

    app.add_exception_handler(HTTPException, let_sign_in)
    # A prefix belongs to one app only: Airflow would never ask another app that it mounts below the same prefix.
    app.mount(WAREHOUSE, warehouse_page.fastapi_app())
    return app


def flask_view() -> Any:
    """The pages for Airflow 2.11, which sends strangers to the login page."""
    from airflow.www.auth import has_access_view
    from flask import Response, request
    from flask_appbuilder import BaseView, expose

    def route(path: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        return lambda handler: expose(path)(has_access_view()(handler))

    def respond(answer: Any) -> Response:
        response = Response(answer.body, answer.status, answer.headers)  # Flask drops the body for HEAD
        if not isinstance(answer.body, bytes):
            response.call_on_close(answer.body.close)
        return response

    class OutputPages(BaseView):  # type: ignore[misc]
        route_base = PREFIX
        default_view = "index"

        @route("/outputs")
        def index(self) -> Response:
            return respond(pages().index_page(base_path(), may_see()))

        @route("/outputs/<path:path>")
        def output(self, path: str) -> Response:
            task = task_page(*(request.args.get(name, "") for name in ("dag_id", "run_id", "task_id", "map_index")))
            return respond(pages().output_page(base_path(), path, task, may_see()))

        @route("/files/<path:path>")
        def file(self, path: str) -> Response:
            return respond(pages().file_answer(base_path(), path, request.headers, may_see()))

        @route("/thumbnails/<path:path>")
        def thumbnail(self, path: str) -> Response:
            wanted = request.args.get("v", "")
            return respond(thumbnails().thumbnail_answer(base_path(), path, request.headers, wanted, may_see()))

        @route("/dbt")
        def dbt_docs(self) -> Response:
            return respond(pages().dbt_docs_answer(base_path(), request.headers))

    return OutputPages()


class OutputPagesPlugin(AirflowPlugin):
    """Registers the link and the pages. What only a web server needs are properties: FastAPI takes 1.5 s to import."""

    name = "output_pages"
    operator_extra_links = [OutputLink()]  # noqa: RUF012  # 2.11 restores only the links that a plugin names

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]  # Airflow only reads these three
        """For Airflow 3's web server."""
        return [{"name": self.name, "app": fastapi_app(), "url_prefix": PREFIX}] if IS_AIRFLOW_3 else []

    @property
    def external_views(self) -> list[Any]:  # type: ignore[override]
        """The list at its address in Airflow 3's UI, /plugin/taxi-outputs. "base" is not in the navigation."""
        view = {
            "name": "Taxi outputs",
            "href": f"{base_path()}/outputs",
            "url_route": "taxi-outputs",
            "destination": "base",
        }
        return [view] if IS_AIRFLOW_3 else []

    @property
    def appbuilder_views(self) -> list[Any]:  # type: ignore[override]
        """For 2.11's web server. A view without a name has no entry in the menu; the page of the warehouse has one."""
        return [] if IS_AIRFLOW_3 else [{"view": flask_view()}]
