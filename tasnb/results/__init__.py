"""The output of a run: tables, charts, figures, the paper's claims, and pages of sentences.

Figures and tables are computed from the pipeline's scores; no model is loaded here.
"""
