"""Status: which months are loaded, missing, failed, republished or withdrawn.

`freshness` derives each month's state, `text` shows the states as a table and sentences, and `editions` finds months
that the TLC has republished or withdrawn. It imports the package's basics, the catalogue, the source and, of the trips,
`loaded`.
"""
