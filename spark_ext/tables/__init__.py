"""Tables that change: a changelog by key, its aggregation and joins, kept in Delta and read by key."""
