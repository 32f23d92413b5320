"""Requests and answers: asked until a deadline, answered once."""
