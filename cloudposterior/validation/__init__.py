"""What needs many fits of a model: cross-validation, calibration by simulation, other priors."""
