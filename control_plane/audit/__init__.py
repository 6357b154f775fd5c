"""What was done to the control plane, by whom: append-only and hash-chained."""
