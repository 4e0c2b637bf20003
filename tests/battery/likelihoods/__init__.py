"""Real modules with functions of the same names, to be told apart, or not, by what they do."""
