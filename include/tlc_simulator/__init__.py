"""A New York City Taxi & Limousine Commission (TLC) on localhost: for the demo, the tests and benchmarks.

It makes any month of any fleet in the catalogue, in the layout of that month, and serves it as the real site does.
`python -m include.tlc_simulator --help` runs it by hand; `TlcSimulator` is the same for tests.
"""

from include.tlc_simulator.server import TlcSimulator

__all__ = ["TlcSimulator"]
