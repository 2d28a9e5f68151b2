"""Status: which months are loaded, missing, failed, published again or withdrawn.

`freshness` compares what is published, downloaded and loaded, `editions` finds months that the TLC has published again
or withdrawn, and `text` puts a status into a table and sentences. It imports the package's basics, the
catalogue, the source and, of the trips, `loaded`.
"""
