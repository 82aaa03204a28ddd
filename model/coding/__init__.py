"""Symbols to bytes and back, exactly alike on every machine: the context model and the range coder.
Uses torch, constriction and what `model` has of devices, child processes and the linear transform; not the
networks. The range coder and its processes use no torch."""
