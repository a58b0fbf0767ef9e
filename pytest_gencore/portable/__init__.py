"""Captures where the C extension is not built: texts, made of what Python knows of its own process.

No file here needs Linux. What is offered is described in docs/reference/limits.md; why it is so, in ADR 0041.
"""
