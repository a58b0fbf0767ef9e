"""One document of an archive: everything that is known, as plain data, for tools and for the page.

See docs/reference/document.md for its fields.
"""
