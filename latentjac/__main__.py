"""``python -m latentjac`` is the ``latentjac`` command; ``--cmake-dir`` alone needs none of what that needs."""

import sys

from latentjac.cli import main
from latentjac.kernels import cmake_dir

if sys.argv[1:] == ["--cmake-dir"]:
    print(cmake_dir())
else:
    main()
