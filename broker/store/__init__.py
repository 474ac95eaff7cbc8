"""The truth: a port (`base`) and its SQL implementation (`sql`)."""
