from pathlib import Path

from transforms.manifest.runs import RunRecord, WrittenFile, begin_run, finish_run, incomplete_runs


def test_a_run_is_incomplete_until_a_later_one_of_the_same_work_is_complete(tmp_path: Path) -> None:
    def folder(run_id: str) -> str:
        return str(tmp_path / "manifest" / f"run={run_id}")

    for run_id, settings in (("1", "{}"), ("2", "{}"), ("3", "other"), ("4", "{}")):
        begin_run(folder(run_id), RunRecord(run_id, "/photos", "rgc-1", settings))
    assert [run.run_id for run in incomplete_runs(str(tmp_path))] == ["1", "2", "3", "4"]
    finish_run([WrittenFile("a.parquet", 5)], 9, folder("3"))
    finish_run([WrittenFile("a.parquet", 4), WrittenFile("b.parquet", 5)], 9, folder("2"))
    found = incomplete_runs(str(tmp_path))
    assert [(run.run_id, run.rows, run.found) for run in found] == [("3", 5, 9), ("4", None, None)]
    finish_run([WrittenFile("a.parquet", 9)], 9, folder("4"))
    assert [run.run_id for run in incomplete_runs(folder("3"))] == ["3"]
    assert not incomplete_runs(f"{folder('4')}/rows-00000-of-00001.parquet")
    (tmp_path / "manifest" / "run=3" / "run.json").write_text("[]")
    assert not incomplete_runs(str(tmp_path))
    finish_run([], 1, str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
