"""Processes: children of ours, the one in the background, and the signals that reach us."""
