"""The table of a run in a notebook: a widget where there is one, HTML in its place where not."""
