# Airflow with this project's packages and code: one image for every service in docker-compose.yaml.
# Build it as `docker compose build` does, or by hand: docker build -t nyc-taxi-airflow:local .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}

# An ordinary user: nothing in the containers runs as root. A named volume takes over the owner of the folder it is first
# mounted on, so that the three folders that are volumes in docker-compose.yaml need no chown when a container starts.
RUN groupadd --gid 50000 airflow \
 && useradd --uid 50000 --gid airflow --home-dir /opt/airflow --create-home --shell /usr/sbin/nologin airflow \
 && install -d -o airflow -g airflow -m 0750 /opt/airflow/auth \
 && install -d -o airflow -g airflow /opt/airflow/logs /opt/nyc-taxi-data

# The lock file is complete, hence --no-deps; `pip check` fails the build when it is not. Every file must have one of the hashes
# in it. A change of code does not come by here.
COPY requirements.txt /tmp/requirements.txt
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r /tmp/requirements.txt \
 && /opt/venv/bin/pip check \
 && rm /tmp/requirements.txt

# dbt has an environment of its own, as in `make dbt`: in Airflow's it would change other packages.
COPY requirements-dbt.txt /tmp/requirements-dbt.txt
RUN python -m venv /opt/venv-dbt \
 && /opt/venv-dbt/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r /tmp/requirements-dbt.txt \
 && /opt/venv-dbt/bin/pip check \
 && rm /tmp/requirements-dbt.txt

# Where things are in this image. What a stack decides (executor, database, secrets) is in docker-compose.yaml.
# PYTHONPATH is for what is run besides Airflow: `python -m include.tlc_simulator`.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/nyc-taxi \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/nyc-taxi/plugins \
    AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST='[{"name": "nyc_taxi", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {"path": "/opt/nyc-taxi"}}]' \
    AIRFLOW__COSMOS__ENABLE_TELEMETRY=False \
    NYC_TAXI_DBT=/opt/venv-dbt/bin/dbt \
    NYC_TAXI_DATA_DIR=/opt/nyc-taxi-data

# The code, for where no checkout is mounted over it.
COPY .airflowignore /opt/nyc-taxi/.airflowignore
COPY include /opt/nyc-taxi/include
COPY plugins /opt/nyc-taxi/plugins
COPY dags /opt/nyc-taxi/dags

USER 50000:50000
WORKDIR /opt/airflow
CMD ["airflow", "version"]
