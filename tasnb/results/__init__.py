"""The output of a run: tables, the paper's claims, causes of errors, and pages of sentences.

Everything is computed from the pipeline's scores; no model is loaded here.
"""
