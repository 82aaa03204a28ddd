"""Photos through the networks together: batches, tiles, each photo's level, what fits into memory.
Uses the networks, the canvas, coding and the file format's limits."""
