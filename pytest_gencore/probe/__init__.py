"""What everything waits for: Python that runs in a copy of the snapshot, and writes JSON lines.

The process it looks at is a copy with one thread, in the middle of whatever the test did. So this code keeps
to rules: it was imported before the test began and imports nothing; it takes no lock; it runs no code of the
project (no ``repr``, ``getattr`` or ``len`` of its objects); it counts, and stops at a limit; it writes each
fact as soon as it knows it, since it may not live to tell the next one. See ``facts`` for what it writes.
"""
