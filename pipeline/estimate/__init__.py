"""What compressing an archive would take, cost and save, from a sample of its photos.
Uses `transforms` and `model`."""
