"""Who is asking: Entra tokens verified, roles checked."""
