select
    partition_month,
    zone_id,
    sum(share_percent) as percent
from {{ ref('fleet_market_share') }}
group by all
having abs(percent - 100) > 1e-6
