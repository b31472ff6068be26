"""Tables as csv, md and tex."""
