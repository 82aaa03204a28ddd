"""The stages as Beam PTransforms, one file each: find, resume, balance, load, encode, write, restore.
Uses Beam and `model`; knows nothing of runners or of the command line."""
