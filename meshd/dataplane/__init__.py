"""A request's journey through this node: the blocking shell around `core/journey`. Plain threads; never waits for trio."""
