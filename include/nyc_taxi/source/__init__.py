"""The source: the TLC's site, and its files as downloaded.

`site` asks which files are published or changed, `download` fetches a file and records its edition, and `parquet` reads
a file's footer. It imports the package's basics and the catalogue.
"""
