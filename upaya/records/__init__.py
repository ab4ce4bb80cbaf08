"""What the stages write and others read: a type for every file, and one way to read it."""
