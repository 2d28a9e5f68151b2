{#- dbt would call the schema marts_staging; there is one target in one warehouse, so the short name is unique. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
