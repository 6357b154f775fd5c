"""The control plane: policies, identities, approvals and recordings, over REST and gRPC."""
