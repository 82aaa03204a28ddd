"""The codec: networks, context model, entropy coding and MS-SSIM, and photos to .rgc files and back.
Uses torch, numpy and the libraries that read photos; knows nothing of Beam, which training machines lack."""
