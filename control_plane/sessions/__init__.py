"""Agents' sessions: who reached what through which relay, and the feed of what happens."""
