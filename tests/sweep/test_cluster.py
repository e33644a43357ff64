"""What a cluster's file may say, and what becomes of it; without a cluster."""

from __future__ import annotations

import pytest
import yaml

from x2c.core.errors import UserError
from x2c.sweep.plan.cells import make_plan
from x2c.sweep.run.cluster import DEFAULT, Cluster, read_cluster
from x2c.sweep.run.slurm import check_storage, own_device, parameters, run_on_slurm

LEAST = {"hours": 2, "workers": 4, "memory_gb": 16}


@pytest.fixture
def written(tmp_path):
    def write(**keys):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**LEAST, **keys}))
        return path

    return write


def test_the_file_of_this_repository_is_valid_and_names_every_key_but_the_partition():
    assert read_cluster() == read_cluster(DEFAULT)
    assert set(yaml.safe_load(DEFAULT.read_text())) == set(Cluster.model_fields) - {"partition"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"partitoin": "gpu"},
            "mine.yaml: partitoin: expected a known key; got 'partitoin'; did you mean 'partition'? choices: cpus",
        ),
        (
            {"hours": "4:00:00"},
            "mine.yaml: hours: expected a valid number, unable to parse string as a number; got '4:0",
        ),
        ({"workers": 0}, "mine.yaml: workers: expected greater than 0; got 0"),
        ({"hours": 0.05}, "mine.yaml: hours: expected hours to be a minute longer than signal_seconds (180); got {"),
        ({"sbatch": {"--time": "1:00"}}, "mine.yaml: sbatch: expected options other than array, error, job-name"),
        ({"sbatch": {"job_name": "x"}}, "mine.yaml: sbatch: expected options other than array, error, job-name"),
        ({"setup": "module load cuda"}, "mine.yaml: setup: expected a valid list; got 'module load cuda'"),
    ],
)
def test_a_wrong_file_is_one_line_with_file_and_key(written, keys, message):
    with pytest.raises(UserError) as error:
        read_cluster(written(**keys))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key_and_a_missing_file(tmp_path, written):
    path = written()
    path.write_text("workers: 3\nmemory_gb: 2\n")
    with pytest.raises(UserError, match=r"mine\.yaml: hours: expected a value; got none"):
        read_cluster(path)
    with pytest.raises(UserError, match=r"--cluster: expected a YAML file such as slurm\.yaml"):
        read_cluster(tmp_path / "none.yaml")


def test_resources_are_those_of_a_job(written, tmp_path):
    keys = {
        "gpus": 2,
        "cpus": 3,
        "memory_gb": 1.5,
        "hours": 1.501,
        "sbatch": {"account": "chest"},
        "setup": ["ml cuda"],
    }
    cluster = read_cluster(written(**keys))
    assert cluster.workers_per_job(2) == 4
    asked = parameters(cluster, tmp_path, "x2c-s", 4)
    assert (asked["ntasks_per_node"], asked["cpus_per_task"], asked["gpus_per_node"]) == (4, 3, 2)
    assert (asked["mem"], asked["time"]) == ("6144M", 91)
    assert asked["additional_parameters"] == {"requeue": True, "signal": "USR1@180", "account": "chest"}
    assert asked["setup"][-1] == "ml cuda"
    assert "partition" not in asked


def test_a_job_without_gpus_is_one_worker(written, tmp_path):
    cluster = read_cluster(written())
    assert cluster.workers_per_job(3) == 1
    assert "gpus_per_node" not in parameters(cluster, tmp_path, "x2c-s", 1)


def test_machines_do_not_share_sqlite():
    check_storage("postgresql+psycopg://db/x2c", 8)
    check_storage(None, 1)
    check_storage("sqlite:////shared/sweeps.db", 1)
    for storage, came in (
        (None, "none, which is SQLite"),
        ("sqlite:////shared/sweeps.db", "sqlite:////shared/sweeps.db"),
    ):
        with pytest.raises(UserError, match=f"--storage: expected postgresql.* for 2 workers on Slurm; got {came}"):
            check_storage(storage, 2)


def test_workers_of_a_job_take_its_gpus_in_turn():
    def told(visible, tasks, number):
        return own_device({"CUDA_VISIBLE_DEVICES": visible, "SLURM_NTASKS": tasks, "SLURM_LOCALID": number})

    assert [told("4,7", "4", str(number))["CUDA_VISIBLE_DEVICES"] for number in range(4)] == ["4", "7", "4", "7"]
    assert told("MIG-a,MIG-b", "2", "1") == {"CUDA_VISIBLE_DEVICES": "MIG-b"}
    assert told("4,7", "1", "0") == told("", "2", "1") == {}, "what Slurm gave stays"


def test_a_folder_that_slurm_takes_for_a_pattern_is_refused(tmp_path):
    plan = make_plan("losses", "smoke", (0,), [f"compute.runs={tmp_path}/r%41b"])
    with pytest.raises(
        UserError, match=r"^--runs: expected a path without '%', which Slurm takes for a pattern; got .*r%41b"
    ):
        run_on_slurm(plan, plan.cells, "postgresql://x/y", 1, [], tmp_path)


def test_no_password_is_told_with_what_machines_cannot_share():
    with pytest.raises(UserError, match=r"got sqlite\+pysqlcipher://:\*\*\*@/x\.db, which"):
        check_storage("sqlite+pysqlcipher://:secret@/x.db", 2)


def test_cells_of_several_processes_are_refused_on_slurm(tmp_path):
    plan = make_plan("losses", "smoke", (0,), [f"compute.runs={tmp_path}", "compute.processes=2"])
    with pytest.raises(UserError, match=r"compute\.processes: expected 1 with --executor slurm"):
        run_on_slurm(plan, plan.cells, "postgresql://x/y", 1, [], tmp_path)
