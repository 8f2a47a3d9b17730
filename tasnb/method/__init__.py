"""The method of the paper: proposals (section 3.2), scores (3.3), rectifier (3.4), metrics (4.1).

Nothing here knows about notebooks, tables, figures or downloads.
"""
