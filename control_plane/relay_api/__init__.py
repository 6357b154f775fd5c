"""The gRPC side: what relays call. Thin: every answer is a domain's."""
