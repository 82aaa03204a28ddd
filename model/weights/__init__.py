"""The released weights, and reading and writing them as safetensors.
Uses the networks of `model` and safetensors."""
