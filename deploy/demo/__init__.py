"""The demonstration: real servers on this machine, and a tour of what an agent meets.

``python -m deploy.demo`` starts PostgreSQL, the control plane with its development issuer and
one relay, and plays the tour through them. It uses what is installed and changes nothing
outside its own directory. It is no way to run jitgate for others: see ``docs/``.
"""
