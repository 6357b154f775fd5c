"""Recordings: verified on arrival, kept as they came, shown and checked again."""
