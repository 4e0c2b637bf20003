"""Numbers that are imported by functions when they are called."""

NARROW = 0.5
WIDE = 4.0
