"""The small experiments of the book's chapters: each a function that returns a tidy data frame, for the chapter to print
and to draw.

One module a chapter: ``paperlib.studies.theorems`` (chapter 1) and ``projection`` (2) and ``reference`` (2b).  Everything is
seeded and in float64, so that it comes out alike everywhere.  Training runs are not here but in :mod:`paperlib.training`.
"""
