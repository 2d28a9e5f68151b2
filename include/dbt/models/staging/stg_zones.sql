-- The taxi zones, and which of them are airports: the TLC has three, and names each of them "… Airport".
select
    zone_id,
    zone,
    borough,
    service_zone,
    zone like '%Airport' as is_airport
from {{ source('warehouse', 'zones') }}
