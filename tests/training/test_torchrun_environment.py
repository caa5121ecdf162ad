"""What torchrun's variables say of a process."""

import pytest

from regard.errors import ConfigError
from regard.training.torchrun_environment import TorchrunEnvironment

VARIABLES = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "29511"}


def test_a_process_without_the_four_variables_has_no_others():
    for name in VARIABLES:
        assert (
            TorchrunEnvironment.from_environment({k: v for k, v in VARIABLES.items() if k != name})
            is None
        )


def test_a_pod_of_kubernetes_is_alone_on_its_machine_and_the_first_runs_the_store():
    environment = TorchrunEnvironment.from_environment(VARIABLES)
    assert (environment.rank, environment.size, environment.local_rank, environment.local_size) == (
        3,
        4,
        0,
        1,
    )
    assert (environment.address, environment.port, environment.runs_store) == ("a", 29511, False)
    assert TorchrunEnvironment.from_environment(VARIABLES | {"RANK": "0"}).runs_store


def test_under_torchrun_its_agent_runs_the_store_and_counts_the_starts():
    more = {
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RESTART_COUNT": "1",
        "TORCHELASTIC_MAX_RESTARTS": "3",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_ERROR_FILE": "/logs/attempt_1/1/error.json",
    }
    environment = TorchrunEnvironment.from_environment(VARIABLES | more | {"RANK": "0"})
    assert (environment.local_rank, environment.local_size, environment.runs_store) == (1, 2, False)
    assert (environment.num_restarts, environment.restarts_left) == (1, 2)
    assert environment.error_file == "/logs/attempt_1/1/error.json"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RANK", "first", "RANK=first: a whole number was expected"),
        ("MASTER_PORT", "-1", "MASTER_PORT=-1: a whole number was expected"),
        ("RANK", "4", "RANK=4: below WORLD_SIZE=4 was expected"),
    ],
)
def test_a_variable_that_cannot_be_right_is_named(name, value, message):
    with pytest.raises(ConfigError, match=message):
        TorchrunEnvironment.from_environment(VARIABLES | {name: value})
