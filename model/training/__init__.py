"""Training: data, losses, the training loop, configurations. EXPERIMENTS.md says what was tried.
Uses the networks of `model`; nothing else may use it but `rgc train` and benchmarks."""
