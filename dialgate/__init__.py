"""A gate between call-centre dialers and the telephony trunk. It decides on each outbound call and records proof."""

__version__ = "0.2.0"
