"""What SFT and GRPO share: completions drawn by all processes, packed into passes, and measured."""
