"""Tests of the cache: layouts, files, damage, processes."""
