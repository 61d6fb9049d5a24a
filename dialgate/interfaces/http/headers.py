"""Names of response headers that commands read too."""

from typing import Final

IN_FORCE: Final = "Dialgate-In-Force"  # for a response without a body: where and from when it applies
NOTE: Final = "Dialgate-Note"  # why a proof has no effect yet
PLANNED: Final = "Dialgate-Planned"  # the counts of plans for a list, as JSON
SCRUBBED: Final = "Dialgate-Scrubbed"  # the counts of verdicts on a list, as JSON
