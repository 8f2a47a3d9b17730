"""Pictures: charts of tables, and figures of images, masks and scores.

Everything here draws what it is given; nothing computes results or reads files.
"""
