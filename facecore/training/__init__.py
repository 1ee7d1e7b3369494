"""Configuration, loop, checkpoints, logging."""
