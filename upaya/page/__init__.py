"""The page to send to a colleague: what was asked, what happened and what came of it, in one file."""
