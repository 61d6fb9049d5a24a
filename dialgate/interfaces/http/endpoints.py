"""The table of endpoints that the server serves and /openapi.json describes."""

from typing import Final

from dialgate.interfaces.http.accounts import ACCOUNTS
from dialgate.interfaces.http.administration import ADMINISTRATION
from dialgate.interfaces.http.attachments import ATTACHMENTS
from dialgate.interfaces.http.breaches import BREACHES
from dialgate.interfaces.http.call_list_endpoints import CALL_LISTS
from dialgate.interfaces.http.campaigns import CAMPAIGNS
from dialgate.interfaces.http.check import CHECKS
from dialgate.interfaces.http.client_keys import CLIENT_KEYS
from dialgate.interfaces.http.decision_search import DECISION_SEARCH
from dialgate.interfaces.http.decisions import DECISIONS
from dialgate.interfaces.http.dialer_endpoints import DIALERS
from dialgate.interfaces.http.history import HISTORY
from dialgate.interfaces.http.incoming_webhooks import INCOMING
from dialgate.interfaces.http.law_changes import LAW_CHANGES
from dialgate.interfaces.http.ledger_endpoints import LEDGER
from dialgate.interfaces.http.lookups import LOOKUPS
from dialgate.interfaces.http.processing import PROCESSING
from dialgate.interfaces.http.proof_files import PROOFS
from dialgate.interfaces.http.registries import REGISTRIES
from dialgate.interfaces.http.reports import REPORTS
from dialgate.interfaces.http.subjects import SUBJECTS
from dialgate.interfaces.http.tasks import TASKS

_GROUPS: Final = (
    CHECKS,
    DECISIONS,
    DECISION_SEARCH,
    LEDGER,
    PROOFS,
    CALL_LISTS,
    CAMPAIGNS,
    TASKS,
    SUBJECTS,
    ATTACHMENTS,
    LOOKUPS,
    BREACHES,
    PROCESSING,
    LAW_CHANGES,
    REPORTS,
    HISTORY,
    ADMINISTRATION,
    ACCOUNTS,
    CLIENT_KEYS,
    REGISTRIES,
    DIALERS,
    INCOMING,
)
ENDPOINTS: Final = tuple(endpoint for group in _GROUPS for endpoint in group.endpoints)
