"""The baselines of Table 1 (section 4.3), all choosing among the same refined proposals.

`scoring.METHODS` lists them. Nothing here depends on the tables.
"""
