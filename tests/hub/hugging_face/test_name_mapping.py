"""Names of tensors in published files, the old ones too."""

from pathlib import Path

import pytest
import torch

from regard.errors import WeightsError
from regard.hub.hugging_face.name_mapping import rename_tensors
from regard.models import CHECKPOINT_FORMATS

OLD, NEW = "encoder.LayerNorm.gamma", "encoder.LayerNorm.weight"


def test_old_endings_of_names_are_replaced():
    tensors = {OLD: torch.ones(2), "encoder.dense.weight": torch.zeros(2)}
    renamed = rename_tensors(Path("bert"), tensors, CHECKPOINT_FORMATS["bert"])
    assert list(renamed) == [NEW, "encoder.dense.weight"]
    assert renamed[NEW].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("names", [(OLD, NEW), (NEW, OLD)])
def test_a_tensor_by_its_old_and_its_present_name_is_refused(names):
    tensors = {name: torch.ones(2) for name in names}
    with pytest.raises(WeightsError) as caught:
        rename_tensors(Path("bert"), tensors, CHECKPOINT_FORMATS["bert"])
    assert str(caught.value) == (
        f"bert/: {OLD} and {NEW} are two tensors of one parameter.  Take one of them out."
    )
