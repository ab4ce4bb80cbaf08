"""MLflow as a view of what stages write: fed live, and rebuilt at any time."""
