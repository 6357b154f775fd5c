"""The data plane: relays that stand between agents and targets. Trio, and no Rust."""

VERSION = "0.1.0"
