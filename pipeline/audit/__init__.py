"""What manifests say, as a report or a page, and whether it is so.
Uses DuckDB, `transforms` and `model`; no Beam pipeline runs here."""
