# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Servers that are killed under load: benchmarks/serving_faults.py at a small size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from postgresql_server import PostgresqlServer


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving_faults.py"
SMALL = ("--jobs", "24", "--clients", "4", "--kills", "3", "--pause", "2", "--poll", "0.5", "--lease-seconds", "4")


def campaign(*options):
    result = subprocess.run([sys.executable, SCRIPT, *SMALL, *options], capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


def test_a_server_that_is_killed_loses_nothing_and_mixes_nothing_up():
    figures = campaign()
    assert (figures["jobs"], figures["ids"], figures["other bytes"]) == (24, 24, 0)
    assert figures["kills"] >= 1 and set(figures["in the store"]) == {"completed"}


def test_of_two_servers_on_one_database_one_at_a_time_is_killed():
    database = PostgresqlServer.start()
    if database is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    try:
        figures = campaign("--servers", "2", "--database", database.new_database())
    finally:
        database.close()
    assert (figures["jobs"], figures["ids"], figures["other bytes"]) == (24, 24, 0)
    assert figures["kills"] >= 1 and set(figures["in the store"]) == {"completed"}
