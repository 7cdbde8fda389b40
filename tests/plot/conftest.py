from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _leaves_no_trace() -> Iterator[None]:
    """No picture makes a figure of pyplot's or changes a setting of matplotlib's."""
    import matplotlib

    torch.manual_seed(0)
    settings = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == settings
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
