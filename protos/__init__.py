"""The contract between the two planes: their words, the words' meaning, and their wire form.

Both planes may import this package; it imports neither, and nothing but the standard
library and protobuf. Enforcement, dry-run and back-testing therefore share one
:func:`protos.policy.evaluate`, one recording format and one converter.
"""
