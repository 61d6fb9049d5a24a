"""Confirmation of accounts. Whoever invites a person could accept the invitation themselves, so a second one answers for the account."""

from msgspec import structs

from dialgate.core.refusal import Refused
from dialgate.people.credentials import without_credentials
from dialgate.store.accounts import PersonAccount


def confirmed(account: PersonAccount, vouching: tuple[str, ...]) -> PersonAccount:
    """Return the account once `vouching` answers for it, too: a client, or none if it does not count. Raises `Refused`."""
    earlier = account.confirmed_by or ()
    if account.disabled_at or not (account.password or account.identity):
        text = "The person has not accepted the invitation yet, or the account is disabled."
        raise Refused("account.not_active", text, "name", 409)
    if account.is_confirmed:
        return account
    if not {*vouching} - {*earlier}:
        raise Refused(
            "account.second_person",
            "Only an operator with a confirmed account who did not send the invitation can confirm it. Or run `dialgate account confirm` on the gate's machine.",
            "name",
            403,
        )
    # Whoever invited a person of a provider again may have set a password, which that person would not notice.
    account = without_credentials(account) if account.identity else account
    return structs.replace(account, confirmed_by=earlier + vouching)
