"""The workbook as a course: exercises with checks, editions for students and teachers, slides.

In a notebook, the cell below an exercise says ``check("4.2", globals())`` and shows a verdict.
"""

from __future__ import annotations

from tasnb.course.checking import check

__all__ = ["check"]
