"""Reports: figures, maps and charts made from the warehouse.

`by_zone` and `by_week` count the trips, `maps` and `charts` draw the figures, and the modules `adhoc…` and
`request_inbox` answer what somebody has asked for in a file or in the web UI. It imports the package's basics, the
catalogue, the audit's rules and the warehouse.
"""
