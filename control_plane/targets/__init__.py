"""Targets: the places that agents reach."""
