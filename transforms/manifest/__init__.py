"""The manifest: its columns, its rows, and reading and writing them as Parquet.
Uses pyarrow, `transforms.storage` and what the stages share."""
