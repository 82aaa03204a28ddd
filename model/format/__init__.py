"""The .rgc file: its container and its source record. FORMAT.md specifies it.
Uses the standard library alone."""
