"""Trips: load a month's file into the warehouse.

`load` replaces a month, `row_mapping` converts a file's columns to the warehouse's, `coordinates` finds the zone of a
place, `zones` loads the taxi zones, and `loaded` lists the loaded months. It imports the
package's basics, the catalogue, the source, the audit, the warehouse and, because a load recounts the weeks that it
changes, `by_week` of the reports.
"""
