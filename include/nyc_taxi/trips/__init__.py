"""Trips: load a month's file into the warehouse.

`load` replaces a month, `row_mapping` converts a file's columns to the warehouse's, `coordinates` finds the zone of a
place, `zones` loads the taxi zones, and `loaded` lists the loaded months. This folder imports all others except
`status` and `web`. Of the reports it imports only `by_week`, because a load recounts the weeks that it changes.
"""
