"""`make bench`: how fast and how lean a load is against bare DuckDB, and whether month 60 costs what month 1 cost."""
