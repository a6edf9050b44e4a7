"""Servers that share a database and a store: the living go on with what the dead have left."""

import time
from pathlib import Path

import pytest
from tests.conftest import Speech
from tests.jobs.postgres import missing, postgres
from tests.jobs.program import begins, origin, start, submit, talk, wait_all, write_wav

TIMES = 32


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_tasks_of_a_dead_server_are_finished_by_a_living_one(tmp_path: Path, speech: Speech) -> None:
    """Two servers on one PostgreSQL; one is killed at work, the other ends all tasks, and hears little twice."""
    files, store = tmp_path / "files", tmp_path / "store"
    files.mkdir()
    store.mkdir()
    for number in range(4):
        write_wav(files / f"{number}.wav", talk(speech("jfk.flac")[:32_000], times=TIMES, lead_ms=320 * number))
    with origin(files) as base, postgres() as database:
        variables = {
            "QASR_DATABASE__URL": database.url,
            "QASR_STORE__URL": store.as_uri(),
            "QASR_ENGINES__DEFAULT": "scripted",
            "QASR_SCRIPTED__LATENCY_MS": "1000",
            "QASR_SCRIPTED__SLOTS": "1",
            "QASR_SCRIPTED__CALL_LOG": str(tmp_path / "calls"),
            "QASR_JOBS__CONCURRENCY": "2",
        }
        doomed = start(tmp_path / "one", tmp_path / "log-one", variables)
        living = start(tmp_path / "two", tmp_path / "log-two", variables)
        server, other = doomed.wait_ready(), living.wait_ready()
        task_ids = [submit(server, [f"{base}/{number}.wav"]) for number in range(4)]
        while not (tmp_path / "calls").exists():
            time.sleep(0.05)
        time.sleep(2)
        doomed.kill()
        outputs = wait_all(other, task_ids, timeout_s=120)
        results = [begins(output) for output in outputs]
        code, took_s = living.stop()

    assert ["SUCCEEDED"] * 4 == [output["task_status"] for output in outputs]
    assert [[TIMES]] * 4 == [[len(sentences) for sentences in result] for result in results]
    assert "executor_silent" in (tmp_path / "log-two").read_text()
    assert len((tmp_path / "calls").read_text().splitlines()) <= 4 * TIMES + 2 * 4 * 8
    assert 0 == code
    assert took_s < 30


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_database_that_goes_away_and_comes_back_costs_time_only(tmp_path: Path, speech: Speech) -> None:
    """PostgreSQL is restarted twice while tasks run: they end right, and the server lives."""
    files = tmp_path / "files"
    files.mkdir()
    for number in range(2):
        write_wav(files / f"{number}.wav", talk(speech("jfk.flac")[:32_000], times=TIMES, lead_ms=320 * number))
    with origin(files) as base, postgres() as database:
        variables = {
            "QASR_DATABASE__URL": database.url,
            "QASR_ENGINES__DEFAULT": "scripted",
            "QASR_SCRIPTED__LATENCY_MS": "1500",
            "QASR_SCRIPTED__SLOTS": "1",
            "QASR_SCRIPTED__CALL_LOG": str(tmp_path / "calls"),
        }
        life = start(tmp_path / "one", tmp_path / "log", variables)
        server = life.wait_ready()
        task_ids = [submit(server, [f"{base}/{number}.wav"]) for number in range(2)]
        while not (tmp_path / "calls").exists():
            time.sleep(0.05)
        for away_s in (0.0, 3.0):
            database.stop()
            time.sleep(away_s)
            database.start()
            time.sleep(2)
        outputs = wait_all(server, task_ids, timeout_s=120)
        results = [begins(output) for output in outputs]
        code, _ = life.stop()

    assert ["SUCCEEDED"] * 2 == [output["task_status"] for output in outputs]
    assert [[TIMES]] * 2 == [[len(sentences) for sentences in result] for result in results]
    assert 0 == code
