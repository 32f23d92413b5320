"""Profiles: which farms one knows and which is meant, and one's account there."""
