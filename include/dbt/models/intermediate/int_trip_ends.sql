-- Each trip twice: from the zone in which it began, and to the zone in which it ended.
select
    *,
    pickup_zone_id as zone_id,
    'from' as direction,
    dropoff_zone_id as other_zone_id
from {{ ref('stg_trips') }}
union all
select
    *,
    dropoff_zone_id as zone_id,
    'to' as direction,
    pickup_zone_id as other_zone_id
from {{ ref('stg_trips') }}
