"""Web pages that show the outputs. The plugin `output_pages` serves them in Airflow's web UI.

`pages` makes the pages from the templates in `html/`. It imports the package's basics and the catalogue.
"""
