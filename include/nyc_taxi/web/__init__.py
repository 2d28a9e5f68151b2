"""The web pages: pages that show the outputs, and the data of the page of the warehouse.

`pages` makes the pages of outputs from the templates in `html/`. `snapshot` writes and reads what the warehouse
contains, `uses` records who uses it and the TLC's site, and `visit` does both for the hook. `grid`, `month` and
`resource` make the JSON of the page of the warehouse, and never open it; `outputs` makes that of its outputs, and
`thumbnails` makes small pictures. The plugins `output_pages` and `warehouse_page` serve them in Airflow's web UI.

It imports the package's basics, the catalogue, the source, the audit's `rules`, the warehouse, the status and, of the
trips, `loaded`.
"""
