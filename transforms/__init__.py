"""The stages, one file each: find, resume, balance, load, encode, write, restore; and what they share.
Uses Beam and `model`; knows nothing of runners or of the command line."""
