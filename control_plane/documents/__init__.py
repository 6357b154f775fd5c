"""Versioned declarative documents: how they are read, checked, kept, compared and undone."""
