"""Relays: how they join, the certificates they serve with, and questions put to them."""
