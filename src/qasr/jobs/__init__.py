"""Durable tasks: ``port.py`` is what the house sees, ``workflow.py`` how a task is done, ``dbos.py`` what keeps it."""
