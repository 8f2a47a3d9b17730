"""The commands of ``python -m tasnb``.

`arguments` declares them, `commands` carries them out.
"""
