"""Reports: figures, maps and charts made from the warehouse.

`by_zone` and `by_week` count trips, `maps` and `charts` draw the figures, the modules `adhoc…` make reports on request,
and `request_inbox` collects request files. It imports the package's basics, the catalogue, the rules of the audit and
the warehouse.
"""
