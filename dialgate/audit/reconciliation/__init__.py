"""Comparison of the calls that left through a trunk with the decisions that allowed them."""

from dialgate.runtime.extras import require

require("archive", "`dialgate reconcile`")  # its modules import pyarrow
