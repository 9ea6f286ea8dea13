"""latentjac: which directions at this noisy image does a diffusion network listen to?

Top singular triplets of the Jacobian of any feature map of a diffusion network, and what they are good
for: editing, transport and geometry.
"""

from latentjac.linearize import Linearization, NonFiniteError, linearize

__all__ = ["Linearization", "NonFiniteError", "linearize"]

__version__ = "0.1.0"
