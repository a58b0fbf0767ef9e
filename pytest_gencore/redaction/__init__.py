"""Secret values: which variables have them, how they are written, and what overwrites them."""
