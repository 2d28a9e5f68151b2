-- Each fleet's share of a zone's pickups in a month. A view, because a fleet's share changes when another fleet's month
-- arrives late; it reads a mart of a few thousand rows a month, not the trips. `not materialized`: DuckDB would compute
-- `by_fleet`, which is used twice, for all months, even if one is asked for.
{{ config(materialized='view', persist_docs={'relation': false, 'columns': false}) }}

with by_fleet as not materialized (
    select
        partition_month,
        zone_id,
        fleet,
        cast(sum(num_trips) as bigint) as num_trips
    from {{ ref('zone_hourly_demand') }}
    where zone_id is not null
    group by all
),

fleets as (
    select
        partition_month,
        count(distinct fleet) as fleets_loaded
    from by_fleet
    group by partition_month
)

select
    b.partition_month,
    b.zone_id,
    b.fleet,
    b.num_trips,
    100 * b.num_trips / sum(b.num_trips) over (partition by b.partition_month, b.zone_id) as share_percent,
    f.fleets_loaded
from by_fleet as b
inner join fleets as f on b.partition_month = f.partition_month
