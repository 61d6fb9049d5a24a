"""A gate between call-centre dialers and the telephony trunk: it decides each outbound call and proves what it decided."""

__version__ = "0.1.0"
