"""The source: the TLC's site and the files that come from it.

`site` asks what the site has, `download` fetches a file and records its edition, and `parquet` reads what a file says
about itself. It imports the package's basics and the catalogue.
"""
