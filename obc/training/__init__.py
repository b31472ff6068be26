"""Training: config, loop, exact resume, sessions, signals, GPUs."""
