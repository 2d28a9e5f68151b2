{#- A mart's trips of a month are exactly as many as the load that it was built from has recorded. -#}
{% test counts_every_trip(model) %}
with built as (
    select fleet, partition_month, rows_loaded
    from {{ _built_months() }}
    inner join {{ source('warehouse', 'latest_loads') }} using (fleet, partition_month, loaded_at)
    where mart = '{{ model.identifier }}'
),

counted as (
    select fleet, partition_month, sum(num_trips) as num_trips
    from {{ model }}
    group by all
)

select *
from built
left join counted using (fleet, partition_month)
where {{ in_range_of_run() }} and coalesce(num_trips, 0) != rows_loaded
{% endtest %}
