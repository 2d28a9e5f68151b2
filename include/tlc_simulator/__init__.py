"""A simulated site of the New York City Taxi & Limousine Commission (TLC), for the demo, tests and benchmarks.

It generates any month of any fleet in the catalogue in that month's layout, and serves it on localhost like the real
site. `python -m include.tlc_simulator --help` explains the command; tests use the class `TlcSimulator`.
"""

from include.tlc_simulator.server import TlcSimulator

__all__ = ["TlcSimulator"]
