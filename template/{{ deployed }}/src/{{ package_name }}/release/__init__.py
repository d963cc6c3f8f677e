"""Releases: one ordered contract for every environment; cloud.py is what differs between clouds."""
