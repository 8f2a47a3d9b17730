"""What a run shows: tables, charts, figures, claims, and pages of sentences.

Figures and tables are functions of the pipeline's scores; no model is loaded here.
"""
