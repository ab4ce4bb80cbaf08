"""One program per DVC stage, read top to bottom, and the Prefect task that brings a stage up to date."""
