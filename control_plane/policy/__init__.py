"""Policies and masking: documents compiled into what relays decide by, and explained."""
