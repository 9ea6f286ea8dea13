"""Schedules, inversion and sampling."""

from latentjac.diffusion.as_diffusers import Diffusers
from latentjac.diffusion.at_point import linearization_at
from latentjac.diffusion.denoise import denoise, descend, predict, predict_noise
from latentjac.diffusion.grids import Own, Rho, Uniform
from latentjac.diffusion.inversion import invert
from latentjac.diffusion.ode_solvers import DDIM, Implicit, Multistep
from latentjac.diffusion.sampling import noise_point, place, render, sample
from latentjac.diffusion.schedule import Schedule
from latentjac.diffusion.trajectory import InversionStatus, Point, Trajectory

__all__ = [
    "DDIM",
    "Diffusers",
    "Implicit",
    "InversionStatus",
    "Multistep",
    "Own",
    "Point",
    "Rho",
    "Schedule",
    "Trajectory",
    "Uniform",
    "denoise",
    "descend",
    "invert",
    "linearization_at",
    "noise_point",
    "place",
    "predict",
    "predict_noise",
    "render",
    "sample",
]
