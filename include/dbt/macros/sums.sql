{#- A sum that ignores NaN and infinity, like nulls: one such value would make the sum of millions of trips NaN. -#}
{% macro sum_of(column, where='true') -%}
    sum({{ column }}) filter (where isfinite({{ column }}) and {{ where }})
{%- endmacro %}

{% macro average_of(column, where='true') -%}
    avg({{ column }}) filter (where isfinite({{ column }}) and {{ where }})
{%- endmacro %}
