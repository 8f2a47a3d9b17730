"""The other methods of Table 1 (section 4.3), all choosing among the same refined proposals.

`methods` lists them. Nothing here knows about tables.
"""
