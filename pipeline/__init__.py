"""The compress and decompress graphs; the folders below run them and read what they leave.
Uses `transforms` and `model`."""
