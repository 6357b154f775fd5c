"""Approvals: held operations, and the humans who decide on them."""
