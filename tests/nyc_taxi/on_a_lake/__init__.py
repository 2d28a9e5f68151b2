"""The tests of loads, weeks, counts and places run again on a DuckLake: both kinds of warehouse must pass them."""
