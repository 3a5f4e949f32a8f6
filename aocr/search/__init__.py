"""Which texts may be read, and how they are searched for."""
