"""dbt's models as tasks of a DAG. Cosmos makes the tasks from the prebuilt manifest, and runs dbt in each of them.

Only DAG files with dbt tasks import this module, because cosmos takes a tenth of a second to import.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from cosmos import settings as cosmos_settings
from cosmos.airflow.task_group import DbtTaskGroup
from cosmos.config import ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import DbtResourceType, ExecutionMode, InvocationMode, LoadMode, TestBehavior
from cosmos.operators.local import DbtBuildLocalOperator
from cosmos.profiles.base import BaseProfileMapping

from include.nyc_taxi import settings
from include.orchestration import dbt_failure, dbt_profile, lineage
from include.orchestration.defaults import DBT_POOL, WAREHOUSE_POOL
from include.orchestration.month import MONTH
from include.orchestration.retry_policy import no_retry_when_permanent

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

PROJECT = settings.PROJECT_ROOT / "include" / "dbt"
MANIFEST = PROJECT / "manifest.json"
"""`make dbt-manifest` writes it. Cosmos reads it when the DAG file is parsed, which takes no dbt and no warehouse."""

# In case the environment does not say so: nothing is reported to anybody.
cosmos_settings.enable_telemetry = False


class WarehouseProfile(BaseProfileMapping):  # type: ignore[misc]  # cosmos has no types
    """dbt's profile for the Airflow connection `warehouse`, which is looked up when a task runs."""

    dbt_profile_type = "duckdb"

    def __init__(self) -> None:
        super().__init__(conn_id="warehouse")

    @property
    def profile(self) -> dict[str, Any]:
        """What cosmos writes to a file. It contains no secrets."""
        return self._made()[0]

    @property
    def env_vars(self) -> dict[str, str]:
        """The secrets, which only the environment of the process that runs dbt contains."""
        return self._made()[1]

    @staticmethod
    def _made() -> tuple[dict[str, Any], dict[str, str]]:
        from warehouse_hook import WarehouseHook

        return dbt_profile.profile(WarehouseHook(), _state() / "extensions")


class DbtBuildOperator(DbtBuildLocalOperator):  # type: ignore[misc]
    """Cosmos's operator for `dbt build`, with this project's program, errors and way to take turns.

    Its rendered fields show the run's month and, afterwards, the SQL that dbt has run. dbt opens the warehouse: the
    task belongs in `pool()`.
    """

    @no_retry_when_permanent
    def execute(self, context: Context, **kwargs: Any) -> None:
        """Run dbt.

        Raises:
            SettingError: dbt is not installed.
            DbtError: dbt has failed; says which model or test, and why.
        """
        from include.nyc_taxi.warehouse import tables  # imports DuckDB, which parsing DAG files must not
        from warehouse_hook import WarehouseHook

        self.dbt_executable_path = str(settings.dbt_program())
        hook = WarehouseHook()
        self._place = lineage.place_of(hook) if lineage.is_on() else None
        with dbt_profile.only_dbt() if hook.is_lake else contextlib.nullcontext():
            with hook.opened() as con:  # waits until a file is free
                tables.make_ready(con)  # an older version may have made it, whose views lack columns that dbt reads
            super().execute(context, **kwargs)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What dbt has read and made, in the warehouse as other tasks name it: dbt knows every lake as `:memory:`."""
        found = super().get_openlineage_facets_on_complete(task_instance)
        if place := getattr(self, "_place", None):
            from include.orchestration import lineage_datasets

            lineage_datasets.move(place, [*found.inputs, *found.outputs])
        return found

    def _process_log_line_callable(self, line: str, _: Any) -> None:
        """Log a line of dbt's output, without the time, which the task's log has anyway."""
        text = dbt_failure.without_time(line)
        if text:
            self.log.info(text)

    def run_subprocess(self, command: list[str], env: dict[str, str], cwd: str, **kwargs: Any) -> Any:
        """Run dbt in cosmos's copy of the project, without what Airflow's own environment contains."""
        self._target = Path(cwd, "target")
        ours = {name: value for name, value in env.items() if not name.startswith("AIRFLOW_")}
        return super().run_subprocess(command, ours, cwd, **kwargs)

    def handle_exception_subprocess(self, result: Any) -> None:
        """Raise what dbt says in its results. Cosmos would print all lines again, and give only the exit status."""
        if result.exit_code:
            raise dbt_failure.explained(result.exit_code, self._target, result.full_output)


def pool() -> str:
    """The pool of tasks that run dbt, known without looking up a connection. Read when DAG files are parsed.

    In a file, dbt takes its turn with all other tasks. A lake takes many writers, but only one dbt at a time, because
    dbt does not repeat a transaction that another one has overtaken. `NYC_TAXI_DBT_POOL` says which it is where the
    connection is not in the environment.
    """
    chosen = settings.dbt_pool()
    if chosen:
        return chosen
    connection = unquote(os.environ.get("AIRFLOW_CONN_WAREHOUSE", ""))
    return DBT_POOL if any(f"ducklake:{server}:" in connection for server in ("postgres", "mysql")) else WAREHOUSE_POOL


def build(task_id: str, fleet: str, select: str) -> DbtBuildOperator:
    """A single task that builds and tests what `select` selects, in dbt's notation."""
    return DbtBuildOperator(
        task_id=task_id,
        select=select,
        project_dir=str(PROJECT),
        profile_config=_profile_config(),
        emit_datasets=False,
        cache_dir=_cache_dir(),
        install_deps=False,
        env=_months(fleet),
        **_arguments(),
    )


def build_each(group_id: str, fleet: str, select: str) -> DbtTaskGroup:
    """A group with a task for each model that `select` selects, which builds and tests the model."""
    group = DbtTaskGroup(
        group_id=group_id,
        project_config=_project_config(fleet),
        profile_config=_profile_config(),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.LOCAL,
            invocation_mode=InvocationMode.SUBPROCESS,
            dbt_executable_path="dbt",  # the operator knows better when it runs
        ),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            select=[select],
            test_behavior=TestBehavior.BUILD,
            emit_datasets=False,  # on 2.11, a task with cosmos's own assets never ends
            node_converters={DbtResourceType.MODEL: _convert},
        ),
        operator_args=_arguments(),
    )
    # Cosmos selects models as a set, so that their order would change with each process.
    group.children = dict(sorted(group.children.items()))
    for task_id, task in group.children.items():
        task.dag.task_dict[task_id] = task.dag.task_dict.pop(task_id)
    return group


def models(group: DbtTaskGroup) -> list[str]:
    """The names of the models that have a task in the group."""
    found = group.dbt_graph.filtered_nodes.values()
    return sorted(node.name for node in found if node.resource_type == DbtResourceType.MODEL)


def _convert(*, dag: Any, task_group: Any, node: Any, task_args: dict[str, Any], **_: Any) -> DbtBuildOperator:
    """Make a model's task; it is called like the model."""
    return DbtBuildOperator(
        task_id=node.name,
        dag=dag,
        task_group=task_group,
        select=f"fqn:{'.'.join(node.fqn)}",
        **task_args | {"cache_dir": _cache_dir()},
    )


def _arguments() -> dict[str, Any]:
    """The arguments of all dbt tasks."""
    return {
        "append_env": True,
        "pool": pool(),
        "invocation_mode": InvocationMode.SUBPROCESS,
        "dbt_cmd_global_flags": ["--no-use-colors", "--no-send-anonymous-usage-stats"],
        # They test the SQL rather than the month, and CI runs them.
        "dbt_cmd_flags": ["--exclude-resource-type", "unit_test"],
    }


def _months(fleet: str) -> dict[str, str]:
    """What a run builds. As dbt's `--vars` instead, it would make dbt read the whole project again for each month."""
    return {"MARTS_FLEET": fleet, "MARTS_FROM": MONTH, "MARTS_TO": MONTH}


def _project_config(fleet: str) -> ProjectConfig:
    config = ProjectConfig(PROJECT, install_dbt_deps=False, manifest_path=MANIFEST, env_vars=_months(fleet))
    # Cosmos makes it an ObjectStoragePath. Opening that loads all of Airflow's plugins: 0.3 s on 3.3, 0.9 s on 2.11.
    config.manifest_path = MANIFEST
    return config


def _profile_config() -> ProfileConfig:
    return ProfileConfig(dbt_profile.NAME, dbt_profile.TARGET, profile_mapping=WarehouseProfile())


def _cache_dir() -> Path:
    """Where a task leaves what dbt has read of the project, so that the next one reads only what has changed."""
    return _state() / "parsed"


def _state() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "dbt"
