"""Training what a search chose: runs side by side, kept as they finish, set beside what was predicted."""
