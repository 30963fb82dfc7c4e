"""Imported once by the fork server, so that each cell's process starts in milliseconds. CUDA stays untouched."""

import warnings

with warnings.catch_warnings():  # what third-party packages warn of while they import each other is not ours to mend
    warnings.simplefilter("ignore")
    import torchvision.io  # noqa: F401

    import bench.runner
    import bench.runner.loggers
    import bench.runner.plan
    import bench.wall.child  # noqa: F401
