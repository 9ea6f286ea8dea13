"""``python -m latentjac`` is the ``latentjac`` command; ``--cmake-dir`` alone needs neither that nor torch."""

import sys

from latentjac.built import cmake_dir
from latentjac.cli import main

if sys.argv[1:] == ["--cmake-dir"]:
    print(cmake_dir())
else:
    main()
