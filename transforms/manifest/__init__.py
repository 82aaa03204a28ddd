"""The manifest: its columns, its rows, and reading and writing them as Parquet.
Uses pyarrow, `transforms.storage` and what flows between the stages."""
