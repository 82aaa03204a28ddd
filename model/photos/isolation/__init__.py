"""Photos decoded in child processes: what crashes, hangs or eats memory there costs one photo.
Uses `model.photos.reading`; so the child imports neither torch nor Beam."""
