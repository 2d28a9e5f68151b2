"""Pages about the files that the pipelines have made, as HTML; the plugin `output_pages` serves them.

It imports the package's basics and the catalogue.
"""
