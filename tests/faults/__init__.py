"""Faults under load: a seeded load writes a history, processes are killed, and a checker judges from the history
alone.
"""
