"""Photos in the formats that people have them in: their pixels, their metadata, and what is left out.
Uses Pillow, pillow-heif, numpy and `model.format`; no torch."""
