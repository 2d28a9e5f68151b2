{#-
A mart is built month by month: a month of a fleet is computed from its own trips, and replaced as a whole.

The table `built_months` records from which load each mart has built each month. A run without a range builds the months
whose latest load is another one: months that are new, late or loaded again. It empties those whose load is gone. With
MARTS_FROM and MARTS_TO in the environment (and MARTS_FLEET), a run builds these months, whether or not they have changed.

A model says `where {{ in_months_of_run() }}`. That becomes a condition with the months as constants, so that DuckDB reads no
other month. A comment in the compiled SQL lists them, and the macros that replace and record the months read it there: they
must not ask the warehouse again, because on a lake another month may have been loaded meanwhile.
-#}

{% macro in_months_of_run() -%}
    {%- set loads = source('warehouse', 'latest_loads') -%}
    {%- if not execute or target.name == 'lint' -%} {#- sqlfluff compiles the models without a warehouse -#}
        true
    {%- else -%}
        {%- set plan = _plan(loads) -%}
        /* months of this run: {{ tojson(plan) }} */ {{ _is_in(plan.months) }}
    {%- endif -%}
{%- endmacro %}


{#- For tests: the months of MARTS_FROM to MARTS_TO, and without them all. `of_fleet=false`: of all fleets. -#}
{% macro in_range_of_run(of_fleet=true) -%}
    {%- set range = _range() -%}
    {%- if range.first -%}
        partition_month between date '{{ range.first }}-01' and date '{{ range.last }}-01'
    {%- else -%}
        true
    {%- endif -%}
    {%- if range.fleet and of_fleet %} and fleet = '{{ range.fleet }}'{% endif -%}
{%- endmacro %}


{#- The strategy: delete all rows of these months, also of a month that has no trips any more, and insert the new ones. -#}
{% macro get_incremental_by_month_sql(arguments) -%}
    {%- set columns = get_quoted_csv(arguments['dest_columns'] | map(attribute='name')) -%}
    delete from {{ arguments['target_relation'] }} where {{ _is_in(_compiled_plan().months) }};
    insert into {{ arguments['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arguments['temp_relation'] }}
{%- endmacro %}


{#- After a mart has been built, in the same transaction. A view or a table has no months of its own. -#}
{% macro record_built_months() -%}
    {%- if execute and config.get('materialized') == 'incremental' -%}
    {%- set plan = _compiled_plan() -%}
    {%- set loaded = plan.months | selectattr(2) | list -%}
    delete from {{ _built_months() }}
    where mart = '{{ this.identifier }}' and {{ 'true' if plan.is_new else _is_in(plan.months) }};
    {% if loaded -%}
    insert into {{ _built_months() }} (mart, fleet, partition_month, loaded_at, built_at) values
    {%- for fleet, month, loaded_at in loaded %}
        (
            '{{ this.identifier }}', '{{ fleet }}', '{{ month }}', '{{ loaded_at }}',
            '{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f") }}'
        ){{ ',' if not loop.last }}
    {%- endfor -%};
    {%- endif -%}
    {%- do log(this.identifier ~ ': ' ~ _sentence(plan.months), info=true) -%}
    {%- endif -%}
{%- endmacro %}


{% macro create_built_months() -%}
    create schema if not exists {{ _built_months().without_identifier() }};
    create table if not exists {{ _built_months() }} (
        mart varchar not null,
        fleet varchar not null,
        partition_month date not null,
        loaded_at timestamp not null,
        built_at timestamp not null
    )
{%- endmacro %}


{% macro _built_months() -%}
    {{ return(api.Relation.create(database=target.database, schema=target.schema, identifier='built_months')) }}
{%- endmacro %}


{#- Whether the mart is built from nothing, and the months to build: fleet, first day, and when it was loaded (or none). -#}
{% macro _plan(loads) -%}
    {%- set range = _range() -%}
    {%- set is_new = not is_incremental() -%}
    {%- if range.first and is_new and load_cached_relation(this) is not none -%}
        {%- do exceptions.raise_compiler_error(
            '--full-refresh would leave only the months from MARTS_FROM to MARTS_TO in ' ~ this.identifier
            ~ ': leave out --full-refresh to build these months again, or the months to build all of them'
        ) -%}
    {%- endif -%}
    {%- set months -%}
        with built as (
            {%- if is_new or not _exists(_built_months()) %}
            select null::varchar as fleet, null::date as partition_month, null::timestamp as loaded_at where false
            {%- else %}
            select fleet, partition_month, loaded_at from {{ _built_months() }} where mart = '{{ this.identifier }}'
            {%- endif %}
        ), months as (
            select fleet, partition_month, l.loaded_at, l.loaded_at is distinct from b.loaded_at as is_due
            from {{ loads }} as l full join built as b using (fleet, partition_month)
        )
        select fleet, partition_month::varchar, loaded_at::varchar
        from months
        where {{ in_range_of_run() }} {% if not range.first %}and is_due{% endif %}
        order by all
    {%- endset -%}
    {%- set found = [] -%}
    {%- for row in run_query(months).rows -%}
        {%- do found.append([row[0] | string, row[1] | string, (row[2] | string) if row[2] else none]) -%}
    {%- endfor -%}
    {{ return({'is_new': is_new, 'months': found}) }}
{%- endmacro %}


{#- The plan that is written into the compiled SQL of the model. -#}
{% macro _compiled_plan() -%}
    {%- set found = modules.re.search('/\\* months of this run: (.*?) \\*/', model.compiled_code) -%}
    {%- if not found -%}
        {%- do exceptions.raise_compiler_error(
            model.original_file_path ~ ': expected `where {{ in_months_of_run() }}`, found no months to build. A mart '
            ~ 'that is not built month by month says so with config(materialized=\'view\') or \'table\''
        ) -%}
    {%- endif -%}
    {{ return(fromjson(found.group(1))) }}
{%- endmacro %}


{#- A condition with constants only. -#}
{% macro _is_in(months) -%}
    {%- if not months -%}
        false
    {%- else -%}
        (
        {%- for fleet, of_fleet in months | groupby(0) -%}
            {{ ' or ' if not loop.first }}(fleet = '{{ fleet }}' and partition_month in (
            {%- for month in of_fleet %}date '{{ month[1] }}'{{ ', ' if not loop.last }}{% endfor -%}
            ))
        {%- endfor -%}
        )
    {%- endif -%}
{%- endmacro %}


{#- The range in the environment; its months are empty if there is none. -#}
{% macro _range() -%}
    {%- set fleet, first = env_var('MARTS_FLEET', ''), env_var('MARTS_FROM', '') -%}
    {%- set last = env_var('MARTS_TO', '') or first -%}
    {%- for name, value, form in [
        ('MARTS_FLEET', fleet, '[a-z0-9_]*'),
        ('MARTS_FROM', first, '([0-9]{4}-(0[1-9]|1[0-2]))?'),
        ('MARTS_TO', last, '([0-9]{4}-(0[1-9]|1[0-2]))?'),
    ] if not modules.re.fullmatch(form, value) -%}
        {%- set expected = 'a fleet such as green' if name == 'MARTS_FLEET' else 'a month such as 2023-01' -%}
        {%- do exceptions.raise_compiler_error(name ~ ': expected ' ~ expected ~ ', found ' ~ value) -%}
    {%- endfor -%}
    {%- if last and (not first or last < first) -%}
        {%- do exceptions.raise_compiler_error('MARTS_TO: expected MARTS_FROM and a month not after it, found '
            ~ (first or 'no MARTS_FROM') ~ ' and ' ~ last) -%}
    {%- endif -%}
    {{ return({'fleet': fleet, 'first': first, 'last': last}) }}
{%- endmacro %}


{#- Not from dbt's cache, which does not know tables that a hook has created. -#}
{% macro _exists(relation) -%}
    {%- set query -%}
        select 1 from information_schema.tables
        where table_catalog = '{{ relation.database }}' and table_schema = '{{ relation.schema }}'
            and table_name = '{{ relation.identifier }}'
    {%- endset -%}
    {{ return(run_query(query).rows | length > 0) }}
{%- endmacro %}


{% macro _sentence(months) -%}
    {%- if not months -%}
        {{ return('no such month is loaded' if _range().first else 'all months are built already') }}
    {%- endif -%}
    {%- set parts = [] -%}
    {%- for fleet, of_fleet in months | groupby(0) -%}
        {%- set days = of_fleet | map(attribute=1) | list -%}
        {%- do parts.append(fleet ~ ' ' ~ days[0][:7] ~ (' to ' ~ days[-1][:7] if days | length > 1 else '')) -%}
    {%- endfor -%}
    {{ return('built ' ~ months | length ~ (' months: ' if months | length > 1 else ' month: ') ~ parts | join(', ')) }}
{%- endmacro %}
