"""The beginning of subjects that hold their collectors, so that something can happen in between."""

from __future__ import annotations

HELPERS = """
import os, signal, sys
from pathlib import Path
import psutil
from kernel import wait_until
from pytest_gencore.capture import CaptureEngine
from subjects import Captures, as_facts, collectors, report

def hold(captures, **options):
    '''Take a capture whose collector stands still.'''
    capture = captures.take(trigger="failure", phase="call", method="memory", **options)
    (collector,) = collectors()
    collector.suspend()
    return capture, collector

def suspend_snapshot(collector):
    '''Let the collector wait for its snapshot for ever.

    One that has not begun would keep what it has inherited open, and outlive the collector.
    '''
    (snapshot,) = collector.children()
    wait_until(lambda: snapshot.num_fds() == 2, "the snapshot has just its two pipes")
    snapshot.suspend()
    return snapshot

def names_in(captures):
    return sorted(path.name for path in captures.directory.rglob("*"))

def name_of(capture):
    return capture.archive.name.removesuffix(".tar.gz")

def folder_of(captures):
    (folder,) = captures.directory.glob(".gencore-*")
    return folder

def marks_in(captures):
    return sorted(path.name.partition("-")[0] for path in folder_of(captures).glob("[cs]l*-*"))
"""
