"""Evaluating bitstreams on boards: on each, or on any, with exactly one outcome each."""
