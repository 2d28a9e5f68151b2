# Every target sets up what it needs, once. State lives in .venv*/, .airflow/ and data/.
#
# Start
#   make demo             the whole path on a simulated TLC, in a few minutes (FLEET=green FROM=2022-11 TO=2022-12; DBT=1 adds marts)
#   make standalone       Airflow with its web UI on http://localhost:8080 (PORT=8081)
#   make shell            a shell in which `airflow …` has this configuration
#   make setup            install what is needed and create Airflow's database; every other target does so by itself
#   make help             this text
#
# Work with months (FLEET=yellow FROM=2023-01 TO=2023-03)
#   make backfill         download, load, count and map these months (REPROCESS=failed or none, WAIT=no)
#   make backfill-weeks   count the weeks that lie in these months, once they are loaded
#   make backfill-marts   build the marts of these months with their DAG, task by task (make dbt-backfill is faster)
#
# Look
#   make status           fleet by month: published, downloaded, loaded, age, gaps (FLEET=yellow)
#   make quality          what the audit of a month has found, rule by rule (FLEET=yellow MONTH=2023-01)
#
# Marts for analysts
#   make dbt              build the months that the marts lack, and test them (ARGS="build --select daily_trips" FROM=2023-01)
#   make dbt-backfill     build the marts of a range of months again, at once (FLEET=green FROM=2023-01 TO=2023-12)
#   make dbt-docs         write dbt's documentation of all tables and columns as one page, data/dbt/index.html
#   make dbt-manifest     list the models in include/dbt/manifest.json, as after each change of a model
#
# Maintain
#   make compact          reclaim the space that replaced months have left behind in the warehouse
#   make migrate          copy the warehouse into a lake, or back (TO=warehouse_lake, the connection to copy into)
#   make pool             create the pools: `warehouse` with as many slots as the connection asks for, `dbt` with one
#   make openlineage      install OpenLineage's provider, which sends lineage where its configuration says
#   make clean            remove everything that was set up; data/ stays
#
# Develop
#   make test             the quick tests, a few minutes; with a path, all tests in it (ARGS="tests/nyc_taxi -q")
#   make test-all         the slow ones too: whole DAG runs and backfills, servers, lakes (ARGS="-m slow")
#   make test-long        backfills killed, starved and obstructed, about an hour (ARGS="-k kill-017")
#   make coverage         the same as make test-all, then the lines that no test has run (ARGS)
#   make lint             ruff, ruff format, mypy and sqlfluff
#   make docs             write the generated pages in docs/reference from the code
#   make screenshots      take the pictures of the page "Taxi warehouse" in docs/images anew, in a real browser
#   make bench            measure (ARCHIVE=1: all 487 files at a hundredth; SCALE=1: 1, 2 and 4 workers; PEERS=1: a bare script and Dagster; PARTITIONS=50000: so many months; BIG=1)
#   make requirements     write the lock files from requirements.in, requirements-dbt.in and requirements-openlineage.in (ARGS=--upgrade takes newer versions)
#
# AIRFLOW=2 does the same on Airflow 2.11. DEMO=1 opens what `make demo` has made: make standalone DEMO=1

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Set on some machines; without compiled modules each Airflow process takes seconds longer to start.
unexport PYTHONDONTWRITEBYTECODE

# -- What is said on the command line: a variable that nobody reads would be passed over in silence --
KNOWN := AIRFLOW PYTHON FLEET FROM TO MONTH REPROCESS WAIT PORT DEMO DBT ARGS ARCHIVE BIG SCALE PEERS PARTITIONS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
# Airflow's and ours, which tasks read, may be set so too, and where the tests have an Airflow of their own.
UNKNOWN := $(filter-out $(KNOWN) AIRFLOW_% _AIRFLOW_% NYC_TAXI_% STATE VENV SHELL MAKE% PATH,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error There is no variable $(firstword $(UNKNOWN)): expected one of $(KNOWN), in capitals)
endif

# make, and what Python puts into a virtual environment, cannot have a path with these in it.
AWKWARD := $(shell printf '%s' '$(subst ','\'',$(CURDIR))' | tr -d '[:alnum:]/._+@,=~%-' | LC_ALL=C tr -d '\200-\377')
ifneq ($(AWKWARD)$(word 2,$(CURDIR)),)
$(error This folder has a space or a special character in its path: $(CURDIR). Move it to one without, for example ~/nyc-taxi)
endif

AIRFLOW ?= 3
PYTHON ?= python3
FLEET ?= yellow
FROM ?= 2023-01
TO ?= $(FROM)
MONTH ?= $(FROM)
REPROCESS ?= completed
WAIT ?= yes
PORT ?= 8080

ifeq ($(filter 2 3,$(AIRFLOW)),)
$(error AIRFLOW: expected 2 or 3, found $(AIRFLOW))
endif
ifeq ($(AIRFLOW),2)
LINE := 2.11
VENV := $(CURDIR)/.venv-airflow2
LOCK := requirements-airflow2.txt
else
LINE := 3.3
VENV := $(CURDIR)/.venv
LOCK := requirements.txt
endif

# What the demo makes is simulated, so it is kept apart from real trips: another data folder, another Airflow home.
ifdef DEMO
STATE := $(CURDIR)/.airflow/$(LINE)-demo
export NYC_TAXI_DATA_DIR := $(CURDIR)/data/demo
else
STATE := $(CURDIR)/.airflow/$(LINE)
endif

# -- Airflow's configuration: all of it; no airflow.cfg is edited --
export AIRFLOW_HOME := $(STATE)
export AIRFLOW__CORE__LOAD_EXAMPLES := False
export AIRFLOW__CORE__PLUGINS_FOLDER := $(CURDIR)/plugins
# A worker takes 170 MB: a few are enough for one machine, and one of them at a time has the warehouse.
export AIRFLOW__CORE__PARALLELISM := 4
# More than all DAGs' max_active_runs together: 3.3 looks at so many runs at a time, and at those of a backfill last. With
# the default of 20, weeks that wait for months would keep the months' own backfill from ever starting.
export AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE := 200
# How long the scheduler rests when it has found nothing to do. With the default, 1 s, the next task in the pool starts
# half a second late on average, 24 times in a year of months. Resting less takes 6 % of a processor, instead of 1.4 %.
export AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME := 0.25
# On one machine nothing is late because of the network: what a killed process left is taken up after a minute, not five.
export AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL := 20
export AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT := 60
export AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL := 10
# Nothing that runs here reports to anybody: neither Airflow, nor cosmos, nor dbt.
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED := False
export AIRFLOW__COSMOS__ENABLE_TELEMETRY := False
export AIRFLOW__COSMOS__CACHE_DIR := $(STATE)/cosmos
export DO_NOT_TRACK := 1
# How long a task waits for a receiver of OpenLineage events, for each event; the provider's default is 10 seconds. It
# does not fork the task's process, because a fork that hangs can leave the task `running` for ever.
export AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT ?= 3
export AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD ?= True
ifeq ($(AIRFLOW),2)
export PYTHONPATH := $(CURDIR)
export AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY := True
export AIRFLOW__CORE__DAGS_FOLDER := $(CURDIR)/dags
export AIRFLOW__WEBSERVER__WEB_SERVER_HOST := 127.0.0.1
# `airflow dags backfill --local` runs several tasks at once, on SQLite too; but when a sensor is rescheduled (as ours
# is), 2.11 checks its executor as if a scheduler were to use it, and would refuse SQLite.
export _AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK := 1
else
# The repository is the bundle's root, so that `include` imports; .airflowignore leaves only dags/ to be read.
export AIRFLOW__CORE__DAGS_FOLDER := $(CURDIR)
export AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST := [{"name": "nyc_taxi", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {"path": "$(CURDIR)"}}]
export AIRFLOW__CORE__EXECUTOR := LocalExecutor
export AIRFLOW__API__WORKERS := 1
# A supervisor now and then misses the end of its task's process, and then looks again after so many seconds (5 by
# default). It bears with an api-server that does not answer for as long as ever: fewer seconds, more failures.
export AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL := 1
export AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS := 15
endif

export PATH := $(VENV)/bin:$(PATH)
LOCAL := $(VENV)/bin/python -m include.local
# dbt has an environment of its own: in Airflow's it would change other packages. Only the targets that run dbt install it.
DBT_VENV := $(CURDIR)/.venv-dbt
UV := $(CURDIR)/.venv-uv/bin/uv

.PHONY: help setup demo backfill backfill-weeks backfill-marts standalone status quality dbt dbt-backfill dbt-docs dbt-manifest compact migrate openlineage shell test test-all test-long coverage lint docs screenshots bench requirements clean
# The comment at the top of this file.
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup: unmoved $(STATE)/.ready

# Both have their own folder's name inside: elsewhere they would run the old place's programs, and make a database there.
.PHONY: unmoved
unmoved:
	@program=$(VENV)/bin/pip; if [ -f $$program ]; then python=$$(head -n 3 $$program | grep -m 1 -o "/[^' ]*/bin/python[^' ]*" || true); \
	  [ "$$(realpath -m "$${python%/*}")" = "$$(realpath -m $(VENV)/bin)" ] || moved=$${python%/bin/*}; fi; \
	if [ -f $(STATE)/airflow.cfg ] && ! grep -Fqx "base_log_folder = $(STATE)/logs" $(STATE)/airflow.cfg; then \
	  moved=$$(sed -n 's|^base_log_folder = \(.*\)/logs$$|\1|p' $(STATE)/airflow.cfg); fi; \
	if [ -n "$${moved:-}" ]; then echo "This folder was set up at another place, as $$moved: move it back, or run \`make clean\` (keeps data/) and try again" >&2; exit 1; fi

# uv comes first, from the lock file as well: its lines there go on to the first that does not end with a backslash.
$(VENV)/.installed: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
ifeq ($(AIRFLOW),2)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || { echo "Airflow 2.11 supports Python up to 3.12, and $(PYTHON) is newer; set PYTHON=/path/to/python3.12" >&2; exit 1; }
endif
	@echo "Installing Airflow $(LINE) and what it needs into $(notdir $(VENV)) …"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r <(sed -n '/^uv==/,/[^\]$$/p' $(LOCK))
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --require-hashes -r $(LOCK) \
	  || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	@touch $@

$(STATE)/.ready: $(VENV)/.installed
	@echo "Setting up Airflow's metadata database in $(patsubst $(CURDIR)/%,%,$(STATE)) …"
	@mkdir -p $(STATE)
	@$(LOCAL) set-up > $(STATE)/setup.log 2>&1 || { tail -5 $(STATE)/setup.log >&2; exit 1; }
	@touch $@

# As many slots as the connection `warehouse` asks for; `make backfill`, `demo` and `standalone` set it again.
.PHONY: pool
pool: unmoved
	@$(LOCAL) pool

# Without FROM and TO the first quarter of 2023; with FROM alone that month, as everywhere else.
demo:
	@$(MAKE) DEMO=1 TO="$(if $(filter-out file,$(origin FROM) $(origin TO)),$(TO),2023-03)" run-demo
	@$(if $(DBT),$(MAKE) DEMO=1 demo-marts)

.PHONY: run-demo
run-demo: setup
	@$(LOCAL) demo --fleet "$(FLEET)" --from "$(FROM)" --to "$(TO)" --reprocess "$(REPROCESS)" --wait "$(WAIT)"

.PHONY: demo-marts
demo-marts: setup $(DBT_VENV)/.installed
	@echo "Building and testing the marts with dbt …"
	@$(LOCAL) dbt -- --quiet build
	@$(LOCAL) dbt-docs
	@echo "Their rows: make dbt DEMO=1 ARGS=\"show --inline 'from marts.daily_trips'\""

backfill: setup
	@$(LOCAL) backfill --fleet "$(FLEET)" --from "$(FROM)" --to "$(TO)" --reprocess "$(REPROCESS)" --wait "$(WAIT)"

backfill-weeks: setup
	@$(LOCAL) backfill-weeks --fleet "$(FLEET)" --from "$(FROM)" --to "$(TO)" --reprocess "$(REPROCESS)" --wait "$(WAIT)"

backfill-marts: setup $(DBT_VENV)/.installed
	@$(LOCAL) backfill-marts --fleet "$(FLEET)" --from "$(FROM)" --to "$(TO)" --reprocess "$(REPROCESS)" --wait "$(WAIT)"

standalone: setup
	@$(LOCAL) standalone --port "$(PORT)" $(if $(DEMO),--simulate)

# All fleets, unless one is asked for.
status: setup
	@$(LOCAL) status $(if $(filter file,$(origin FLEET)),,--fleet "$(FLEET)")

quality: setup
	@$(LOCAL) quality --fleet "$(FLEET)" --month "$(MONTH)"

# The range is all months that the marts lack, unless one is asked for. ARGS are dbt's.
dbt: setup $(DBT_VENV)/.installed
	@$(LOCAL) dbt $(if $(filter file,$(origin FLEET)),,--fleet "$(FLEET)") $(if $(filter file,$(origin FROM)),,--from "$(FROM)") \
	  $(if $(filter file,$(origin TO)),,--to "$(TO)") -- $(ARGS)

# All fleets, unless one is asked for.
dbt-backfill: setup $(DBT_VENV)/.installed
	@$(LOCAL) dbt-backfill $(if $(filter file,$(origin FLEET)),,--fleet "$(FLEET)") --from "$(FROM)" --to "$(TO)"

dbt-docs: setup $(DBT_VENV)/.installed
	@$(LOCAL) dbt-docs

dbt-manifest: setup $(DBT_VENV)/.installed
	@$(LOCAL) dbt-manifest

# uv comes first, as in Airflow's environment.
$(DBT_VENV)/.installed: requirements-dbt.txt
	@echo "Installing dbt into $(notdir $(DBT_VENV)) …"
	@$(PYTHON) -m venv $(DBT_VENV)
	@$(DBT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r <(sed -n '/^uv==/,/[^\]$$/p' requirements-dbt.txt)
	@$(DBT_VENV)/bin/uv pip install --quiet --python $(DBT_VENV)/bin/python --require-hashes -r requirements-dbt.txt
	@touch $@

compact: setup
	@$(LOCAL) compact

migrate: setup
	@$(LOCAL) migrate --to "$(if $(filter file,$(origin TO)),,$(TO))"

# The lock files have what the provider needs. It sends nothing until a transport is configured.
openlineage: setup
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-openlineage.txt
	@echo "OpenLineage's provider is installed. Say where it sends lineage: AIRFLOW__OPENLINEAGE__TRANSPORT='{\"type\": \"http\", \"url\": \"http://localhost:5000\", \"timeout\": 1, \"retry\": {\"total\": 0}}'"

shell: setup
	@echo "A shell with Airflow $(LINE) and this project's settings; exit leaves it"
	@$(SHELL) -i

# A process for each processor, unless ARGS names a file; `-n 0` in ARGS is one process. tests/conftest.py knows the slow tests.
PYTEST = $(VENV)/bin/python -m pytest $(if $(findstring .py,$(ARGS)),,--numprocesses logical --maxprocesses 8 --dist loadgroup)

test: setup
	@$(PYTEST) $(ARGS)

test-all: setup
	@$(PYTEST) --all $(ARGS)

# Not part of `make test-all`. One scenario: make test-long ARGS="-k kill-017"
test-long: setup
	@$(VENV)/bin/python -m pytest tests/long $(ARGS)

# Tasks, schedulers and other programs that the tests start count too: their parts are put together at the end.
coverage: setup
	@$(PYTEST) --all --cov --cov-report=term:skip-covered --cov-report=html $(ARGS)

lint: unmoved $(VENV)/.installed $(DBT_VENV)/.installed
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(DBT_VENV)/bin/sqlfluff lint --quiet include/dbt

docs: setup
	@$(LOCAL) docs

# A test takes the pictures in every run; here it puts them into the docs.
screenshots: setup
	@$(VENV)/bin/python -m pytest tests/integration/test_page_in_browser.py -k pictures --screenshots -q $(ARGS)

bench: unmoved $(VENV)/.installed
	@$(VENV)/bin/python -m tests.bench $(if $(ARCHIVE),--archive) $(if $(BIG),--big) $(if $(SCALE),--scale) $(if $(PEERS),--peers) $(if $(PARTITIONS),--partitions $(PARTITIONS)) $(ARGS)

# One resolution for all Python versions, with markers where they differ; versions that are locked stay unless they must change.
requirements: $(UV)
	@for line in "3.3.2 requirements.txt" "2.11.2 requirements-airflow2.txt"; do set -- $$line; \
	  echo "apache-airflow==$$1" | $(UV) pip compile requirements.in --constraint /dev/stdin --output-file $$2 \
	    --universal --python-version 3.11 --generate-hashes --custom-compile-command "make requirements" --quiet $(ARGS); done
	@$(UV) pip compile requirements-dbt.in --output-file requirements-dbt.txt --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command "make requirements" --quiet $(ARGS)
	@$(UV) pip compile requirements-openlineage.in --output-file requirements-openlineage.txt --no-deps --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command "make requirements" --quiet $(ARGS)

# In an environment of its own: the lock files may be what keeps the others from being installed.
$(UV): requirements.in
	@$(PYTHON) -m venv $(CURDIR)/.venv-uv
	@$(CURDIR)/.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[^ ]*' requirements.in)"
	@touch $@

clean:
	rm -rf .venv .venv-airflow2 .venv-dbt .venv-uv .airflow build .pytest_cache .mypy_cache .ruff_cache
