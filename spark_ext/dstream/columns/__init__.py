"""Elements as blocks: an Arrow array where their types allow it, a list where not; and what works on both."""
