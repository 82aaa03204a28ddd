"""What a photo's file holds beside its pixels: a module for each container, one for EXIF, one for XMP.
Uses `model.format`; knows nothing of pixels but how they were turned."""
