"""What is at work, what would run and why, is the machine fit for it: how a checkout is operated."""
