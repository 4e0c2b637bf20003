"""What is seen of a run: one table, and a file for each place that shows it."""
