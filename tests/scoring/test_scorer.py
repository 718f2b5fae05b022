"""Tasks that cannot be scored are refused early."""

import pytest

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab.scoring.scorer import TaskScorer


@pytest.mark.parametrize(
    ("tasks", "options", "error", "message"),
    [
        (["nonsense_task"], {}, UsageError, "unknown task 'nonsense_task'.*use lm-eval"),
        (["sst2"], {}, UsageError, "task 'sst2' is the harness's"),
        (["no_such_task_xyz.yaml"], {"protocol": "lm-eval"}, DataError, "not found"),
        (["storyworld_action"], {"limit": 0}, UsageError, "limit is 0"),
        (["storyworld_action"], {"protocol": "mine"}, UsageError, "protocol is 'mine'"),
    ],
)
def test_what_cannot_be_scored_is_told_before_anything_runs(
    tasks: list, options: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        TaskScorer(tasks, **options)
