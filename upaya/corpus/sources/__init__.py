"""Where questions come from. What a source is: entry.py. Which there are: opened.py. Each other file is one."""
