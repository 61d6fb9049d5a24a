"""What a controller did in a day or a month, from what stands on record: the decision log with its archive, the ledger, the
registry's receipts. A report has no called number in it; what was shown and who asked is the controller's own."""

from dialgate.report.figures import Found, Period, Progress, Report, day, gather, month

__all__ = ["Found", "Period", "Progress", "Report", "day", "gather", "month"]
