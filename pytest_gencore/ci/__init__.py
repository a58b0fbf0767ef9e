"""Telling a CI system of captures, in the form that it documents: pages, log lines, its agent."""
