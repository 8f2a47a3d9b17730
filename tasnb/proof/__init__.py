"""Proves that public models answer as published: ``python -m tasnb doctor --prove``.

`answers` reads what is known, with its sources, from ``answers.toml``. `weights` finds a model's
files, `questions` asks the workbook's own classes, `prove` compares the answers, and `record` keeps
the result for reports.
"""
