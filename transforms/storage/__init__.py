"""Whole files on local disks and in Google Cloud Storage.
Uses google-cloud-storage and nothing of rgc."""
