"""The baselines of Table 1 (section 4.3) and newer methods, choosing among the same proposals.

`scoring.METHODS` lists the baselines, `scoring.NEWER` the newer methods. Nothing here depends on
the tables.
"""
