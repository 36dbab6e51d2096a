"""Certificates: how much a model can stretch a change of its input, and how far an input may move before its class changes."""

from .bounds import CertificateError, spectral_bound
from .radius import certificates, certified_accuracy, certified_radius, lipschitz_bound

__all__ = [
    "CertificateError",
    "certificates",
    "certified_accuracy",
    "certified_radius",
    "lipschitz_bound",
    "spectral_bound",
]
