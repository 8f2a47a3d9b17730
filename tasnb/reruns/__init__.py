"""Several runs: what differs between them, sweeps over settings, an overview, and exports.

Everything is read from the folders of finished runs; nothing here computes masks or scores.
"""
