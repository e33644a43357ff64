"""Layouts of data sets on disk, as downloaded or exported: each source lists the pairs that a folder holds."""
