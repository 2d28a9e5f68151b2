"""Trips: from a month's file to rows of the warehouse.

`load` replaces a month, `row_mapping` makes our columns of the file's, `coordinates` finds the zone of a place, `zones`
loads the taxi zones, and `loaded` says which months are there. It imports the package's basics, the catalogue, the
source, the audit, the warehouse and, because a load recounts the weeks that it changes, `by_week` of the reports.
"""
