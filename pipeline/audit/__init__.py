"""What manifests say, as a report or a page, and whether it is so.
Uses DuckDB, `transforms`, `model` and prices of `pipeline.estimate`; no Beam pipeline runs here."""
