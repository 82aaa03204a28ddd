"""The released weights, and reading and writing them as safetensors.
Uses `model.network` and safetensors."""
