"""Questions that a text itself asks and answers: one small pure function a kind, and the files they go into."""
