"""The small experiments of the book's chapters.

Each is a function that returns a tidy data frame, for the chapter to print and to draw.  There is one module per
chapter: ``paperlib.studies.norm_preservation`` (chapter 1), ``projection`` (2), ``published`` (A), ``channel_grid``
(3) and ``runs`` (4).  Chapter 5 has ``section4``, ``beginning``, ``explanation``, ``interventions``, and ``sentences``.
Chapter 6 has ``your_network``.

Everything is seeded and in float64, so that it comes out alike everywhere.  Training is not here but in
:mod:`paperlib.training` and :mod:`paperlib.channel_grid`; the modules from ``channel_grid`` on only sum up what was
recorded.  The exception is chapter 6, which trains small networks for some seconds, in float32.
"""
