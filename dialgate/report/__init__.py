"""Daily, weekly and monthly reports on a controller's calls, made from the decision log, the ledger and registry receipts.

A report contains no called number. It names only the controller's own campaigns, caller IDs and clients.
"""

from dialgate.report.figures import PERIODS, CallReport, Period, day, gather, month, week

__all__ = ["PERIODS", "CallReport", "Period", "day", "gather", "month", "week"]
