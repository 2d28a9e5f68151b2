"""The tests of loads, weeks, counts and places once more, on a DuckLake: they hold on both kinds of warehouse."""
