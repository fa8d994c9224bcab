"""The model.py of every pool in a Triton model repository; `PoolModel` is what it runs.

Triton's stub runs an isolated interpreter. Where that does not find the packages by itself, the
variable CONVLENS_SITE names the folder that has them.
"""

import importlib
import os
import site
import sys

place = os.environ.get("CONVLENS_SITE", "")
if place:
    site.addsitedir(place)

try:
    importlib.import_module("convlens.workers.spinning").spin_briefly()
    TritonPythonModel = importlib.import_module("convlens.workers.triton.pool").PoolModel
except ModuleNotFoundError as error:
    raise RuntimeError(
        f"{error}. Triton's Python {sys.version_info[0]}.{sys.version_info[1]} looked in "
        f"{place or 'its own folders'}: set CONVLENS_SITE to the site-packages where "
        "convlens-workers is installed for that Python (docs/triton.md)"
    ) from None
