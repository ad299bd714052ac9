"""Read by every Python that finds this folder on PYTHONPATH: plants the bug that PLANTED_BUG names."""

import os

if os.environ.get("PLANTED_BUG"):
    from tests.reliability.planting import bugs

    bugs.plant(os.environ["PLANTED_BUG"])
