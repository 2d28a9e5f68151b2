"""The audit: rules about trips and months, and the results of checking a month against them.

`rules` defines the rules as data, `engine` applies them to a month's rows, and `report` stores and prints the results.
It imports the package's basics and the catalogue.
"""
