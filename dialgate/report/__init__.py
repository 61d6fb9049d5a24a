"""Daily and monthly reports on a controller's calls, made from the decision log, the ledger and registry receipts.

A report contains no called number. Campaigns, caller IDs and clients in it are the controller's own.
"""

from dialgate.report.figures import Period, Progress, RecordWithResult, Report, day, gather, month

__all__ = ["Period", "Progress", "RecordWithResult", "Report", "day", "gather", "month"]
