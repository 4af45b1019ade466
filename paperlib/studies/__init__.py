"""The small experiments of the book's chapters.

Each is a function that returns a tidy data frame, for the chapter to print and to draw.  There is one module per
chapter: ``paperlib.studies.theorems`` (chapter 1), ``projection`` (2), ``published`` (2b) and ``channel_grid`` (3).
Everything is seeded and in float64, so that it comes out alike everywhere.  Training runs are not here but in
:mod:`paperlib.training` and :mod:`paperlib.grid_runs`; chapter 3's functions only sum up what a grid has measured.
"""
