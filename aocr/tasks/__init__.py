"""The work behind the commands other than training; results are returned, not printed."""
