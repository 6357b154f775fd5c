"""What sets jitgate up and runs it: scripts, and the demonstration in :mod:`deploy.demo`."""
