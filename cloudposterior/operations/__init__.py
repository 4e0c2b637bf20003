"""What can be run on a model and cached: how a call is normalised, and how it is run."""
