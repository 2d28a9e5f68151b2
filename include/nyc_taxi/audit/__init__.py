"""The audit: rules about trips and months, what they find in a month, and the record of it.

`rules` has the rules as data, `engine` applies them to a month's rows, and `report` keeps and prints the results.
It imports the package's basics and the catalogue.
"""
