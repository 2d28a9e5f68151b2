"""Trips: load a month's file into the warehouse.

`load` replaces a month, `row_mapping` converts a file's columns to the warehouse's, `coordinates` finds the zone of a
place, `zones` loads the taxi zones, `loaded` lists the loaded months, and `up_to_date` tells whether a month can be
skipped. It imports the package's basics, the catalogue, the source, the audit, the warehouse and, of the reports,
`by_week` and `by_zone`: a load recounts the weeks that it changes, and a month is done when its map is drawn.
"""
