"""The model.py of every pool in a Triton model repository; `PoolModel` is what it runs.

Triton's stub runs an isolated interpreter, which finds the installed packages by CONVLENS_SITE.
"""

import importlib
import os
import site

site.addsitedir(os.environ["CONVLENS_SITE"])
# Before torch is loaded: idle threads of one pool must not spin on the cores of another.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TritonPythonModel = importlib.import_module("convlens.workers.triton.pool").PoolModel
