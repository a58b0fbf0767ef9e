"""Captures of workers on other hosts: how their archives come home."""
