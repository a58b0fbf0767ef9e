"""How programs that read cores are started: under limits, and in a sandbox where there is one.

What they read may come from a stranger, and says which files it would like to see.
"""
