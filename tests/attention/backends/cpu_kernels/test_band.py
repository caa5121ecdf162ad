"""The compiled kernels over drawn bands, watched by the sanitizers for addresses and for C++."""

from pathlib import Path

import pytest
from tests.sanitizers import assert_clean

from regard.attention.backends import cpu_kernels


@pytest.mark.slow
def test_no_drawn_band_reads_or_writes_outside_of_its_memory(tmp_path):
    driver, headers = Path(__file__).with_name("drive.cpp"), Path(cpu_kernels.__file__).parent
    assert_clean(driver, 40, tmp_path, headers)
