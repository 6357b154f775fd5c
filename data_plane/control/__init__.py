"""The relay's side of the contract with the control plane; it dials out, nothing dials in."""

from data_plane.control.client import ControlPlane, Refused, Unavailable

__all__ = ["ControlPlane", "Refused", "Unavailable"]
