"""Defaults, names and limits of the options of edits, which Python and the command line read; it imports no torch."""

MOST_STEPS = 1000  # of a walk
K = 8  # directions of the bases on the way
TOL = 1e-2  # largest relative residual of those bases
LINEARITY_TOLERANCE = 0.1
DISTANCE = 3.0
FARTHEST = 1e4  # standard deviations
NULL_RANK = 5  # of the original for faces
LARGEST_GAIN = 1e6
# What methods are called on the command line, in specs and in the explorer, and their classes in latentjac.editing.
METHODS = {"guidance": "Guidance", "linear": "Linear", "geodesic": "Geodesic", "h-space": "HSpace"}
INJECTIONS = ("below", "point")
CHANGE = 0.05  # RMS change of pictures in [0, 1] at value 1 of a slider
LEAST_CHANGE = 1e-6  # below it rounding is measured
CHANGE_TOLERANCE = 0.02  # largest error of a slider's change, as a part of it
