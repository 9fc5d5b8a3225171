"""One study for each sketch: how large its error is, beside its bound."""
