-- The manifests of one OUTPUT as tables of BigQuery: `rgc.manifest` has all rows, `rgc.latest` one for each photo.
--
--     sed 's|gs://BUCKET/OUTPUT|gs://my-bucket/rgc|' infra/bigquery/manifest.sql |
--         bq --location=us-central1 query --use_legacy_sql=false
--
-- The location is the bucket's. Nothing is copied: each query reads the Parquet files as they are then.

CREATE SCHEMA IF NOT EXISTS rgc;

-- The columns are named, not detected: the files of early runs lack some, which are null then.
CREATE OR REPLACE EXTERNAL TABLE rgc.manifest (
  source_uri STRING,
  rgc_uri STRING,
  status STRING,
  reason STRING,
  source_format STRING,
  width INT64,
  height INT64,
  source_bytes INT64,
  rgc_bytes INT64,
  saved_bytes INT64,
  source_bits_per_pixel FLOAT64,
  bits_per_pixel FLOAT64,
  ms_ssim FLOAT64,
  iterations INT64,
  source_sha256 STRING,
  source_fingerprint STRING,
  rgc_sha256 STRING,
  model STRING,
  settings STRING,
  encode_seconds FLOAT64,
  run_id STRING,
  finished_at TIMESTAMP
)
WITH PARTITION COLUMNS (run STRING)
OPTIONS (
  format = 'PARQUET',
  uris = ['gs://BUCKET/OUTPUT/manifest/*'],  -- one * is all that BigQuery takes; it crosses folders
  hive_partition_uri_prefix = 'gs://BUCKET/OUTPUT/manifest'
);

CREATE OR REPLACE VIEW rgc.latest AS
SELECT * FROM rgc.manifest
WHERE TRUE
QUALIFY row_number() OVER (PARTITION BY source_uri ORDER BY run_id DESC, finished_at DESC) = 1;
