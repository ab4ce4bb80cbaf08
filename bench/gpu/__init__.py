"""What this project does on a GPU, measured in one call: see __main__.py and run."""
