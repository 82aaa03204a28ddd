"""Rate and quality beside other codecs.
Uses `model` and Matplotlib; no Beam."""
