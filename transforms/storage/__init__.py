"""Whole files on local disks and in Google Cloud Storage.
Uses google-cloud-storage and, of rgc, only the counter of requests that are tried again."""
