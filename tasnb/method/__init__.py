"""The paper, section by section: from proposals (3.2) to the rectifier (3.4) and metrics (4.1).

Nothing here knows about notebooks, tables, figures or downloads.
"""
