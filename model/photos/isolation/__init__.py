"""Photos decoded in child processes: what crashes, hangs or eats memory there costs one photo.

May use `model.photos.reading`; the child imports neither torch nor Beam.
"""
